"""The steps that are timed, and their table."""

import json
import sys

import jax
import numpy as np
import pytest

from benchmarks.harness.train_step import Workload, make_step, method_section
from benchmarks.step import measurement
from benchmarks.step.__main__ import main
from benchmarks.step.measurement import DEFAULT_METHODS, OPTAX_SAM
from benchmarks.step.optax_sam import make_optax_sam_step
from benchmarks.step.table import table
from tests.runs import ROOT
from tests.train.networks import NAME

pytestmark = pytest.mark.slow

WORKLOAD = Workload(NAME, image_size=8, batch_size=8, classes=10, precision="float32")


@pytest.mark.parametrize("method", ["sgd again", "vasso refresh_every=5", OPTAX_SAM])
def test_timed_steps_train(method):
    assert method in DEFAULT_METHODS
    step = make_optax_sam_step(WORKLOAD) if method == OPTAX_SAM else make_step(WORKLOAD, method)
    before = np.concatenate([np.ravel(x) for x in leaves(step.state)])
    step.run(3)
    after = np.concatenate([np.ravel(x) for x in leaves(step.state)])
    assert np.isfinite(after).all()
    assert (before != after).mean() > 0.9


def leaves(state):
    params = state[0] if isinstance(state, tuple) else state.params
    return [np.asarray(leaf) for leaf in jax.tree.leaves(params)]


def test_the_step_is_that_of_the_method_and_its_fields():
    assert method_section("sgd again") == {"name": "none"}
    wanted = {"name": "ssam", "density": 0.5, "choice": "random"}
    assert method_section("ssam density=0.5 choice=random") == wanted
    settings = WORKLOAD.plan("vasso refresh_every=5").settings
    assert settings["method"]["refresh_every"] == 5
    with pytest.raises(ValueError, match="FIELD=VALUE"):
        method_section("vasso 5")


RESULTS = ROOT / "benchmarks/step/results"


@pytest.mark.parametrize("name", sorted(path.name for path in RESULTS.glob("*.json")))
def test_results_that_are_kept_can_be_shown(name):
    result = json.loads((RESULTS / name).read_text())
    assert table(result).row_count == len(result["rows"]) > 1


def test_command(tmp_path, monkeypatch, capsys):
    out = tmp_path / "new" / "step.json"
    command = ["benchmarks.step", "--model", NAME, "--batch_size", "8"]
    command += ["--rounds", "2", "--steps", "1", "--methods", "sgd", "vasso", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    # Its measurement takes seconds, and is made in the processes of test_gpu.py.
    monkeypatch.setattr(measurement, "peak_flops", lambda precision: (1e12, "assumed"))
    main()
    result = json.loads(out.read_text())
    assert result["ratio_to"] == "sgd"
    assert result["rows"]["sgd"]["ratio"] == 1
    assert len(result["rows"]["vasso"]["seconds"]) == 2
    assert result["rows"]["vasso"]["flops"] > result["rows"]["sgd"]["flops"]
    assert "vasso" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "sgd", "vaso"], "Did you mean vasso"),
        (["--methods", "vasso tetha=0.4"], "Did you mean theta"),
        (["--model", "resnet19"], "resnet18"),
        (["--precision", "tf32"], "NVIDIA"),
        (["--rounds", "0"], "at least 1"),
        (["--batch_size", "9"], "multiple of 8"),  # the tests have eight devices
    ],
)
def test_wrong_arguments(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks.step", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("error: ")
