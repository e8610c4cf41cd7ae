"""sharpness.json: written and read, and damaged."""

import json
import subprocess
import sys

import pytest

from tests.run_folder.measured import measurement, trace
from vasso_jax.runs import (
    add_measurement,
    read_measurements,
)


def test_what_is_added_is_read(tmp_path):
    path = tmp_path / "sharpness.json"
    assert read_measurements(path) == []
    made = [measurement(), trace(3.0), measurement(10)]
    for one in made:
        assert add_measurement(path, one) is one
    assert read_measurements(path) == made
    assert {p.name for p in tmp_path.iterdir()} == {path.name, f"{path.name}.lock"}
    # What another process has measured meanwhile stays.
    assert add_measurement(path, measurement(figures={"lambda_1": 13.0})) == made[0]
    assert read_measurements(path) == made
    # Settings are told apart as they are after reading: with lists in the place of tuples.
    settings = {"largest": 5, "loss": {"examples": 8, "sizes": (1, 2)}}
    assert made[0].is_of(20, "hessian", settings)
    others = [(10, "hessian", settings), (20, "trace", settings), (20, "hessian", {"largest": 5})]
    assert not any(made[0].is_of(*other) for other in others)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"format": 1}', "no format 1 with measurements"),
        ('{"format": "1", "measurements": []}', "no format 1 with measurements"),
        ('{"format": 2, "measurements": []}', "needs a newer vasso_jax"),
        ('{"format": 1, "measurements": [{"step": 1}]}', "measurement 1"),
        ('{"format": 1, "measurements": [3]}', "measurement 1"),
    ],
)
def test_a_damaged_file_is_one_message_and_stays_as_it_is(tmp_path, content, message):
    path = tmp_path / "sharpness.json"
    path.write_text(content)
    for act in (lambda: read_measurements(path), lambda: add_measurement(path, measurement())):
        with pytest.raises(ValueError, match=rf"{path}.*{message}.*delete it to measure again"):
            act()
    assert path.read_text() == content


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, None) for name in ("step", "kind", "settings", "figures", "details", "seconds")),
        ("figures", {"lambda_1": "high"}),
        ("figures", {"lambda_1": True}),
    ],
)
def test_a_measurement_of_other_types_is_damaged(tmp_path, field, value):
    path = tmp_path / "sharpness.json"
    add_measurement(path, measurement())
    content = json.loads(path.read_text())
    content["measurements"][0][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"is damaged \(measurement 1\)"):
        read_measurements(path)


def test_a_number_that_is_not_finite_is_not_written(tmp_path):
    path = tmp_path / "sharpness.json"
    with pytest.raises(ValueError, match="not JSON compliant"):
        add_measurement(path, measurement(figures={"lambda_1": float("nan")}))
    assert not path.exists()


def test_figures_that_nothing_would_find_again_are_refused(tmp_path):
    path = tmp_path / "sharpness.json"
    with pytest.raises(ValueError, match=r"begin with lambda_, trace, .*; not so: sharpness"):
        add_measurement(path, measurement(figures={"lambda_1": 1.0, "sharpness": 1.0}))
    assert not path.exists()


def test_what_several_processes_add_at_once_is_all_kept(tmp_path):
    path = tmp_path / "sharpness.json"
    code = (
        "import pathlib, sys\n"
        "from vasso_jax.runs import Measurement, add_measurement\n"
        "for step in map(int, sys.argv[2:]):\n"
        "    one = Measurement(\n"
        "        step=step, kind='trace', settings={}, figures={}, details={}, seconds=0\n"
        "    )\n"
        "    add_measurement(pathlib.Path(sys.argv[1]), one)\n"
    )
    shares = [range(40), range(40, 80)]
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(path), *map(str, share)])
        for share in shares
    ]
    assert [process.wait() for process in processes] == [0, 0]
    steps = [one.step for one in read_measurements(path)]
    assert sorted(steps) == [*range(80)]
