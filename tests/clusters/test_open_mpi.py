"""The command of docs/scaling.md for Open MPI."""

import os
import signal
import subprocess
import time

import pytest

from tests import runs
from tests.clusters import documented
from tests.train.networks import SMALL

pytestmark = pytest.mark.cluster

LONG = (SMALL, "epochs=10", "checkpoint_every_steps=2")


def start(workdir):
    command = documented.command("mpirun", workdir, *LONG)
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=documented.ROOT,
        env=os.environ
        | allowed
        | {"OMPI_MCA_rmaps_base_oversubscribe": "1", "JAX_NUM_CPU_DEVICES": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",  # mpirun cuts the output of a process wherever it likes
    )


def test_mpirun_stopped_by_sigterm_saves_and_goes_on_to_the_records_of_an_unbroken_run(tmp_path):
    output, _ = start(tmp_path / "unbroken").communicate(timeout=300)
    assert "on 2 hosts" in output
    unbroken = runs.records(tmp_path / "unbroken")
    assert unbroken[-1]["epoch"] == 10

    process = start(tmp_path / "stopped")
    end = time.monotonic() + 300
    while not any(step >= 20 for step in runs.steps_saved(tmp_path / "stopped")):
        assert time.monotonic() < end, "the run does not get on"
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert "everything saved" in output
    assert "Traceback" not in output

    output, _ = start(tmp_path / "stopped").communicate(timeout=300)
    assert "resuming at step" in output
    assert runs.records(tmp_path / "stopped") == unbroken
