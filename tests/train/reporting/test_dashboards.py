"""The optional viewers: what they show, and what happens if their package is missing."""

import contextlib
import importlib.machinery
import importlib.util
import os
import sys
import types

import pytest

from vasso_jax.runs import RunFolder
from vasso_jax.train.reporting.dashboards import check_installed, open_dashboards
from vasso_jax.train.reporting.quiet import without_standard_error


def test_nothing_is_opened_unless_asked_for(tmp_path):
    assert open_dashboards(RunFolder(tmp_path), {}, tensorboard=False, wandb_project="") == []


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_wandb_without_its_package_is_refused():
    with pytest.raises(ValueError, match="wandb_project=p needs the package wandb: pip install"):
        check_installed("p")


def test_wandb_gets_config_and_scalars_and_finds_its_run_again(tmp_path, monkeypatch):
    calls = []
    run = types.SimpleNamespace(
        log=lambda scalars, step: calls.append((step, scalars)),
        finish=lambda: calls.append("finished"),
    )
    stub = types.ModuleType("wandb")
    stub.__spec__ = importlib.machinery.ModuleSpec("wandb", loader=None)
    stub.init = lambda **kwargs: calls.append(kwargs) or run
    monkeypatch.setitem(sys.modules, "wandb", stub)
    for _ in range(2):
        (dashboard,) = open_dashboards(
            RunFolder(tmp_path), {"lr": 0.1}, tensorboard=False, wandb_project="p"
        )
        dashboard.write(3, {"test/loss": 0.5})
        dashboard.close()
    assert calls[0]["project"] == "p"
    assert calls[0]["config"] == {"lr": 0.1}
    assert calls[1:3] == [(3, {"test/loss": 0.5}), "finished"]
    # A resumed run is the same run.
    assert calls[3] == calls[0]


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("tensorflow", "tensorboard"))),
    reason="an optional extra",
)
def test_tensorboard_files_are_written_where_tensorflow_is_installed(tmp_path, capfd):
    (dashboard,) = open_dashboards(RunFolder(tmp_path), {}, tensorboard=True, wandb_project="")
    dashboard.write(3, {"test/loss": 0.5})
    dashboard.close()
    assert list(tmp_path.glob("events.out.tfevents.*"))
    assert capfd.readouterr() == ("", "")


def test_native_code_is_kept_off_standard_error_until_the_end_of_the_block(capfd):
    with contextlib.suppress(KeyError), without_standard_error():
        os.write(2, b"lost")
        raise KeyError
    os.write(2, b"kept")
    assert capfd.readouterr().err == "kept"
