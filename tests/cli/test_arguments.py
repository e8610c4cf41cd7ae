"""What the commands make of their arguments, and what they say of those that they refuse."""

import argparse

import pytest

from vasso_jax.cli.arguments import at_least, checkpoint, positive_numbers


def test_arguments_become_values():
    assert at_least(2)("2") == 2
    assert positive_numbers("0.1,2,0.10") == [0.1, 2.0]
    assert [checkpoint(text) for text in ("last", "best", "0", "22")] == ["last", "best", 0, 22]


@pytest.mark.parametrize(
    ("convert", "texts", "message"),
    [
        (at_least(2), ("1", "-5", "2.5", "nan", "many", ""), "must be an integer of at least 2"),
        (
            positive_numbers,
            ("0", "0.1,-1", "nan", "inf", "1e400", "wide", "1,", ""),
            "must be numbers > 0, such as 0.05,0.1",
        ),
        (checkpoint, ("worst", "-1", "2.5", "9" * 5000, ""), "must be last, best or a step"),
    ],
)
def test_what_is_refused_is_named(convert, texts, message):
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError) as error:
            convert(text)
        assert str(error.value) == f"{message}, got {text!r}"
