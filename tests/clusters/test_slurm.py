"""The batch script of docs/scaling.md, and an array of a sweep, under Slurm's own daemons."""

import os
import signal
import subprocess
import sys

import pytest

from tests import runs
from tests.clusters import documented
from tests.train.networks import SMALL

pytestmark = pytest.mark.cluster

EPOCHS = 20
# Saved often, so that it takes a minute.
LONG = (SMALL, f"epochs={EPOCHS}", "checkpoint_every_steps=2")


def script(workdir):
    return documented.command("#!/bin/bash", workdir, *LONG)


@pytest.fixture(scope="module")
def unbroken(slurm, tmp_path_factory):
    """The records of a job that nothing stopped."""
    workdir = tmp_path_factory.mktemp("unbroken")
    job = slurm.submit(script(workdir), cwd=documented.ROOT)
    facts = slurm.wait(job)
    assert facts["JobState"] == "COMPLETED", slurm.log(job)
    assert facts["NumNodes"] == "2"
    assert "2 x cpu on 2 hosts" in slurm.log(job)
    found = runs.records(workdir)
    assert found[-1]["epoch"] == EPOCHS
    return found


def test_a_job_at_its_time_limit_saves_requeues_itself_and_ends_as_an_unbroken_one(
    slurm, unbroken, tmp_path
):
    limit = ("--time=2", "--signal=TERM@70")
    job = slurm.submit(script(tmp_path), *limit, cwd=documented.ROOT)
    facts = slurm.wait(job)
    assert facts["JobState"] == "COMPLETED", slurm.log(job)
    assert int(facts["Restarts"]) >= 1
    assert "everything saved" in slurm.log(job)
    assert "resuming at step" in slurm.log(job)
    assert runs.records(tmp_path) == unbroken


def test_scancel_saves_and_the_same_script_goes_on(slurm, unbroken, tmp_path):
    job = slurm.submit(script(tmp_path), cwd=documented.ROOT)
    documented.until_saved(tmp_path, 60)
    slurm.cancel(job)
    assert slurm.wait(job)["JobState"] == "CANCELLED"
    assert "everything saved" in slurm.log(job)
    assert "Traceback" not in slurm.log(job)
    again = slurm.submit(script(tmp_path), cwd=documented.ROOT)
    assert slurm.wait(again)["JobState"] == "COMPLETED", slurm.log(again)
    assert "resuming at step" in slurm.log(again)
    assert runs.records(tmp_path) == unbroken


def test_a_job_that_loses_a_task_requeues_itself_and_ends_as_an_unbroken_one(
    slurm, unbroken, tmp_path
):
    job = slurm.submit(script(tmp_path), cwd=documented.ROOT)
    documented.until_saved(tmp_path, 60)
    tasks = f"^{sys.executable} main.py .*--workdir={tmp_path}( |$)"
    found = subprocess.run(["pgrep", "-f", tasks], check=True, capture_output=True, text=True)
    _, one = map(int, found.stdout.split())
    os.kill(one, signal.SIGKILL)
    facts = slurm.wait(job)
    assert facts["JobState"] == "COMPLETED", slurm.log(job)
    assert facts["Restarts"] == "1"
    assert "resuming at step" in slurm.log(job)
    assert runs.records(tmp_path) == unbroken


def test_each_job_of_an_array_trains_one_point_of_a_sweep(slurm, tmp_path):
    sweep = (
        f"{sys.executable} -m vasso_jax sweep --config={documented.ROOT}/configs/digits.py "
        f"--methods=sgd,vasso --seeds=2 --workdir={tmp_path}/sweep --config.epochs=1 "
        f"--config.{SMALL}"
    )
    job = slurm.submit(
        f"#!/bin/bash\n{sweep} --index=$SLURM_ARRAY_TASK_ID\n", "--array=0-3", cwd=documented.ROOT
    )
    for i in range(4):
        facts = slurm.wait(f"{job}_{i}")
        assert facts["JobState"] == "COMPLETED", slurm.log(f"{job}_{i}")
    found = sorted((tmp_path / "sweep").glob("**/metrics.jsonl"))
    assert len(found) == 4
