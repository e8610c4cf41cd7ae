"""The command that finds a learning rate: what it prints and draws, and what it refuses."""

import json

import numpy as np
import pytest

from tests.train.own_parts import HERE
from vasso_jax.cli import find_lr
from vasso_jax.train.lr_finder import read_off

pytestmark = pytest.mark.slow

SMALL = (
    "--config=digits:none",
    f"--config.model.name={HERE}:Bare",
    f"--config.data.name={HERE}:halves",
    "--config.batch_size=16",
)


def test_it_prints_a_table_and_the_result_and_leaves_only_the_picture(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    find_lr.main([*SMALL, "--low=1e-4", "--high=100", "--steps=40", "--png=found.png"])
    assert [path.name for path in tmp_path.iterdir()] == ["found.png"]
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    *lines, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert 1e-4 < result["suggested_lr"] < 1
    assert result["suggested_lr"] == pytest.approx(result["minimum_lr"] / 10, rel=0.01)
    assert 1e-4 < result["steepest_lr"] < result["minimum_lr"] < 100
    assert 10 < result["losses"] <= 40
    rows = [line for line in lines if line.startswith("│")]
    assert len(rows) == 10
    assert rows[0].split()[1] == "0.0001"
    assert any(line.startswith(f"suggested: {result['suggested_lr']:.3g}") for line in lines)


@pytest.mark.parametrize(
    ("losses", "diverged", "said", "missing"),
    [
        (np.linspace(1, 2, 12), None, "falls nowhere: give a smaller --low", "steepest descent"),
        (np.linspace(2, 1, 12), None, "still falls at the end: give a larger --high", "suggested"),
        (np.r_[np.linspace(2, 1, 12), 5], 3.0, "stopped at 3", "warning"),
        (np.r_[np.linspace(2, 1.9, 12), 2], None, "falls by 5.0% only", "stopped"),
    ],
)
def test_it_says_what_a_curve_does_not_tell(losses, diverged, said, missing, capsys):
    rates = np.geomspace(1e-3, 1, len(losses))
    find_lr.show(read_off(rates, losses, losses, diverged))
    out = capsys.readouterr().out
    assert said in out
    assert missing not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--low=1", "--high=1"], "1e-37 < low < high < 1e+37, got 1.0 and 1.0"),
        (["--steps=5"], "steps must be at least 10, got 5"),
        (["--png={tmp}"], "must be a file in a folder that exists"),
        (["--png={tmp}/none/found.png"], "must be a file in a folder that exists"),
        (["--workdir=runs/a"], "there is no flag --workdir"),
        (["--config.schedul.name=cosine"], "Did you mean schedule?"),
    ],
)
def test_what_it_refuses(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        find_lr.main([*SMALL, *(argument.format(tmp=tmp_path) for argument in arguments)])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
