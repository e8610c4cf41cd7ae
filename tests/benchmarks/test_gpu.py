"""benchmarks.gpu rehearsed at toy size, and what it refuses."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.gpu import stages
from benchmarks.gpu.__main__ import main
from tests.runs import ROOT
from tests.train.networks import NAME, SMALL

pytestmark = pytest.mark.slow


def gpu(*arguments):
    command = [sys.executable, "-m", "benchmarks.gpu", *map(str, arguments)]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture
def small_networks(monkeypatch):
    """The networks of a rehearsal, replaced by one that compiles fast in every process."""
    flags = stages._flags

    def small(*args, **options):
        return [*flags(*args, **options), f"--config.{SMALL}"]

    monkeypatch.setattr(stages, "TOY_NETWORKS", ((NAME, 8, 4, 10),))
    monkeypatch.setattr(stages, "_flags", small)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")


@pytest.mark.weekly
def test_rehearsal(small_networks, tmp_path, monkeypatch, capsys):
    """Every stage but the last, which is as the first, in processes; then all is there already."""
    toy = ["benchmarks.gpu", "--data_dir", str(tmp_path), "--out", str(tmp_path), "--toy"]
    toy += ["--stages", *(stage for stage in stages.STAGES if stage != "precisions")]
    monkeypatch.setattr(sys, "argv", toy)
    main()
    done = capsys.readouterr().out
    results = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert {*results} == {
        f"step_{NAME}_bfloat16",
        "throughput",
        f"memory_{NAME}_vasso",
        "seeds",
        "training_vasso0.4_seed0",
    }
    assert results["training_vasso0.4_seed0"]["config"]["method"]["theta"] == 0.4
    assert results["training_vasso0.4_seed0"]["records"][-1]["split"] == "test"
    assert "Training runs" in done

    main()
    again = capsys.readouterr().out
    assert again.count("there already") == len(results)
    assert again.split("already")[-1].strip() == done.split(" s\n")[-1].strip()


@pytest.mark.parametrize("toy", [True, False])
def test_precisions_are_the_steps_but_for_the_precision(toy, tmp_path):
    def commands(stage, precision):
        """What every process is given, of what is measured there."""
        return {
            " ".join(word for word in task.command if word != task.name).replace(precision, "?")
            for task in stages.tasks(stage, tmp_path, tmp_path, toy, with_torch=False)
            if precision in task.command
        }

    slower = commands("precisions", "float32")
    assert len(slower) == len(stages.TOY_NETWORKS if toy else stages.NETWORKS)
    few = {command for command in commands("steps", "bfloat16") if "--methods" in command}
    assert few
    assert few <= slower


def test_without_time_nothing_starts(tmp_path):
    done = gpu("--data_dir", tmp_path, "--out", tmp_path / "out", "--toy", "--minutes", 0)
    assert done.returncode == 0
    assert "not enough time left" in done.stdout
    assert "no results" in done.stdout


def test_refusals(tmp_path):
    for arguments, message in (
        (("--data_dir", tmp_path / "none"), "vasso-jax prepare cifar10"),
        (("--stages", "step", "--data_dir", tmp_path), "precisions"),
    ):
        done = gpu(*arguments)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    (tmp_path / "cifar10").mkdir()
    done = gpu("--data_dir", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "no GPU" in done.stderr
