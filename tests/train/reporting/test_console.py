"""What a run prints: one row for an epoch, below a head."""

import numpy as np
import pytest

from vasso_jax.train.reporting.console import Display

TRAIN = {"epoch": 3, "loss": 2.5, "top1": 0.125, "lr": 0.05, "images_per_second": 1234.5}
TEST = {"loss": 2.25, "top1": 0.1875}


def printed(capsys, *epochs, split="test"):
    display = Display(enabled=True)
    display.start(100, 0, split)
    for arguments in epochs:
        display.epoch(*arguments)
    compiling, *rows = capsys.readouterr().out.splitlines()
    assert compiling.startswith("compiling")
    return rows


def test_rows_of_epochs_stand_below_one_head(capsys):
    head, first, second, third = printed(
        capsys,
        (30, TRAIN, TEST),
        (30, {**TRAIN, "epoch": 4}, None),
        # A given optimizer, directions that were all reused, and no step that was timed.
        (30, {"epoch": 5, "images_per_second": None}, TEST),
    )
    assert head.split("  ")[-1].strip() == "images/s"
    assert first.split() == ["3/30", "2.5000", "12.50", "2.2500", "18.75", "0.05", "1,234"]
    assert second.split() == ["4/30", "2.5000", "12.50", "0.05", "1,234"]
    assert third.split() == ["5/30", "2.2500", "18.75"]
    for row in (first, third):
        assert row.index("2.2500") + len("2.2500") == head.index("test loss") + len("test loss")


@pytest.mark.parametrize("loss", [12345.6789, 1e10, float("nan"), float("inf"), -3e300])
def test_rows_fit_on_80_columns(capsys, loss):
    large = {"epoch": 3000, "loss": loss, "top1": 1.0, "lr": 1.3e-10}
    rows = printed(capsys, (3000, {**large, "images_per_second": 1.2e7}, large))
    assert max(map(len, rows)) <= 80
    epoch, *figures = rows[1].split()
    assert epoch == "3000/3000"
    np.testing.assert_allclose([float(x) for x in figures[:4]], [loss, 100, loss, 100], rtol=1e-3)
    assert figures[4:] == ["1.3e-10", "12,000,000"]


def test_the_head_says_what_is_evaluated(capsys):
    head, _ = printed(capsys, (30, TRAIN, TEST), split="validation")
    assert "val. loss" in head
    assert "test" not in head


def test_what_looks_like_markup_is_printed_as_it_is(capsys):
    Display(enabled=True).closing({"workdir": "/tmp/[/b]x[red]"})
    assert "/tmp/[/b]x[red]" in capsys.readouterr().out
