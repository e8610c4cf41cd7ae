"""The script for Open MPI of docs/scaling.md, by mpirun on this machine."""

import os
import signal
import subprocess

import numpy as np
import pytest

from tests import runs
from tests.clusters import documented
from tests.train.networks import SMALL

pytestmark = pytest.mark.cluster

FIELDS = (SMALL, "epochs=4", "checkpoint_every_steps=4")
ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",  # more processes than cores
    "JAX_NUM_CPU_DEVICES": "1",
}


class Script:
    """The script of the page, started as a job of its own."""

    def __init__(self, workdir):
        self._workdir = workdir
        self._log = workdir.with_name(f"{workdir.name}.log")
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", documented.command("mpirun", workdir, *FIELDS)],
                cwd=documented.ROOT,
                env=os.environ | ENVIRONMENT,
                stdout=log,
                stderr=log,
            )

    def until_training(self, steps=8):
        documented.until_saved(self._workdir, steps)

    def finish(self):
        """Waits for the end; returns the exit status and what was printed."""
        status = self.process.wait(timeout=600)
        return status, self._log.read_text()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The records of a script that nothing stopped."""
    workdir = tmp_path_factory.mktemp("mpi") / "unbroken"
    status, said = Script(workdir).finish()
    assert status == 0, said
    assert "2 x cpu on 2 hosts" in said
    return runs.records(workdir)


def test_two_processes_give_the_records_of_one(unbroken, tmp_path):
    runs.run(tmp_path, *FIELDS, config="digits:vasso", devices=2)
    for ours, theirs in zip(unbroken, runs.records(tmp_path), strict=True):
        assert (ours["step"], ours["split"]) == (theirs["step"], theirs["split"])
        np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=3e-6)


def test_sigterm_to_the_script_saves_and_the_same_script_goes_on(unbroken, tmp_path):
    script = Script(tmp_path / "run")
    script.until_training()
    script.process.terminate()
    status, said = script.finish()
    assert status == 128 + signal.SIGTERM
    assert "everything saved" in said
    status, said = Script(tmp_path / "run").finish()
    assert status == 0, said
    assert "resuming at step" in said
    assert runs.records(tmp_path / "run") == unbroken


def test_a_killed_mpirun_leaves_a_run_that_goes_on(unbroken, tmp_path):
    script = Script(tmp_path / "run")
    script.until_training()
    subprocess.run(["pkill", "-KILL", "-P", str(script.process.pid), "mpirun"], check=True)
    assert script.finish()[0] != 0
    status, said = Script(tmp_path / "run").finish()
    assert status == 0, said
    assert "resuming at step" in said
    assert runs.records(tmp_path / "run") == unbroken
