"""Sections bound to constructors: names, types, defaults, and what is refused."""

import functools
import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vasso_jax.train.config.sections import bind


def build(
    first, size: int, rate=0.5, count: int = 2, *, flag=False, word="a", pair=(1, 2), dtype=None
):
    return {k: v for k, v in locals().items() if k != "first"}


DEFAULTS = {"rate": 0.5, "count": 2, "flag": False, "word": "a", "pair": (1, 2), "dtype": None}


def bound(fields, section="model", constructor=build, **options):
    return bind(section, "net", constructor, fields, **({"supplied": ("first",)} | options))


integers = st.integers(-(2**63) + 1, 2**63 - 1)


@given(
    st.fixed_dictionaries(
        {"size": integers},
        optional={
            "rate": st.floats(-1e38, 1e38) | st.integers(-9, 9),
            "count": integers,
            "flag": st.booleans(),
            "word": st.text(),
            "pair": st.lists(st.integers()),
            "dtype": st.sampled_from(["float32", "bfloat16"]),
        },
    )
)
def test_what_is_given_arrives_and_what_is_not_has_its_default(fields):
    part = bound(fields)
    made = part("supplied")
    for name, default in DEFAULTS.items():
        expected = fields.get(name, default)
        if name == "dtype":
            assert made[name] == (None if expected is None else jnp.dtype(expected))
        elif name == "pair":
            assert made[name] == tuple(expected)
        else:
            assert made[name] == expected
            assert type(made[name]) is type(default)
        assert part.settings[name] == (tuple(expected) if name == "pair" else expected)
        assert part.value(name) == made[name]
    assert part.settings["name"] == "net"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "model net needs size: give --config.model.size"),
        (
            {"size": 1, "rat": 1},
            r"has no rat \(set in the config, or by --config.model.rat\). Did you mean rate\?",
        ),
        ({"size": 1, "first": 1}, "model.first cannot be set: the run supplies it"),
        ({"size": 1, "rate": "x"}, "model.rate must be a number, got 'x'"),
        ({"size": 1, "rate": True}, "model.rate must be a number"),
        ({"size": 1, "count": 1.5}, "model.count must be an integer"),
        ({"size": 1, "count": True}, "model.count must be an integer"),
        ({"size": 1, "flag": 1}, "model.flag must be True or False"),
        ({"size": 1, "word": 3}, "model.word must be a string"),
        ({"size": 1, "pair": 3}, "model.pair must be a sequence"),
        ({"size": 1, "dtype": "float23"}, "Did you mean float32"),
        ({"size": "x"}, "model.size must be an integer"),
    ],
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        bound(fields)


def test_none_is_refused_where_the_default_is_something_else():
    with pytest.raises(ValueError, match=r"model.rate cannot be None: leave it out .*0\.5"):
        bound({"size": 1, "rate": None})
    with pytest.raises(ValueError, match="model net needs size"):
        bound({"size": None})
    assert bound({"size": 1, "dtype": None}).arguments == {"size": 1}
    # A field that was cleared for another constructor.
    assert "theta" not in bound({"size": 1, "theta": None}).settings


@pytest.mark.parametrize("field", ["flag", "word", "pair", "rate"])
def test_functions_are_refused_where_they_cannot_be_schedules(field):
    def annotated(size: int, rate: float = 0.5, flag: bool = False, word="a", pair=(1,)):
        """Is never called."""

    with pytest.raises(ValueError, match=f"model.{field} must be"):
        bound({"size": 1, field: abs}, constructor=annotated, supplied=())


def test_an_argument_called_name_is_not_taken_for_the_name_of_the_choice():
    part = bound({}, constructor=lambda first, name="x": (first, name))
    assert part.settings == {"name": "net"}
    assert part(1) == (1, "x")
    with pytest.raises(ValueError, match="needs an argument called name, which cannot be set"):
        bound({}, constructor=lambda first, name: first)


def test_own_arguments_called_dtype_or_mask_may_be_strings():
    def own(first, dtype="bfloat16", mask="all"):
        return dtype, mask

    part = bound({"dtype": "int4", "mask": "none"}, section="method", constructor=own)
    assert part(0) == ("int4", "none")


def test_names_of_dtypes_stand_for_dtypes_where_arithmetic_is_done_only():
    assert bound({"size": 1, "dtype": "float32"}, section="data").arguments["dtype"] == "float32"


def test_numbers_of_numpy_are_numbers():
    part = bound({"size": np.int64(3), "rate": np.float32(0.5)})
    assert json.dumps(part.settings)
    assert (part.arguments["size"], part.arguments["rate"]) == (3, 0.5)


def test_schedules_of_python_callers_pass_and_are_known_by_name():
    schedule = optax.constant_schedule(0.1)
    part = bound({"size": 1, "rate": schedule})
    assert part.arguments["rate"] is schedule
    assert isinstance(part.settings["rate"], str)


def test_what_a_partial_has_fixed_is_no_field():
    fixed = functools.partial(build, "first", size=3)
    assert "size" not in bound({}, constructor=fixed, supplied=()).settings
    with pytest.raises(ValueError, match="has no size"):
        bound({"size": 4}, constructor=fixed, supplied=())


def test_a_field_of_another_choice_says_whose_it_is():
    others = {"wide": lambda theta: 0, "deep": lambda theta, n: 0, "flat": lambda n: 0}
    with pytest.raises(ValueError, match=r"has no theta.*wide, deep have it.*FILE\.py:net"):
        bound({"size": 1, "theta": 1}, section="method", others={**others, "net": build})
    # Not for a name of the user's own, which is no METHOD of FILE.py:METHOD.
    with pytest.raises(ValueError, match=r"has no theta.*It has [\w, ]+\.$"):
        bound({"size": 1, "theta": 1}, section="method", others=others)
