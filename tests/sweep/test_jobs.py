"""Many runs at once: what is refused before the first of them, and what becomes of each."""

import os
from concurrent.futures import Future

import pytest

from tests.run_folder.written import write_run
from tests.sweep.tasks import die, surroundings
from vasso_jax.sweep import PlannedRun, jobs, run_all, worker
from vasso_jax.sweep.worker import Outcome
from vasso_jax.train import check
from vasso_jax.train.presets import digits


class Here:
    """In place of a process: does its tasks in this one."""

    def __init__(self, share, shares, cache):
        pass

    def submit(self, task, run):
        future = Future()
        future.set_result(task(worker.pack(run.config), run.folder))
        return future

    def outcome(self, future):
        return future.result()

    def close(self):
        pass


class Told(list):
    """What a progress is told."""

    def begin(self, total, finished):
        self.append((total, finished))

    def started(self, run):
        self.append(run.folder.name)

    def ended(self, run, outcome):
        self.append((run.folder.name, outcome.error))

    def refresh(self):
        pass


@pytest.fixture
def trained(monkeypatch):
    """The names of the runs that are trained; `bad` fails."""
    names = []

    def train_run(packed, folder):
        names.append(folder.name)
        return Outcome(None, "it is bad", 1.0) if folder.name == "bad" else Outcome({}, "", 1.0)

    monkeypatch.setattr(jobs, "_Worker", Here)
    monkeypatch.setattr(worker, "train_run", train_run)
    return names


def planned(folder, method="sam", **fields):
    config = digits(method)
    config.update(fields)
    return PlannedRun(folder, config)


def test_those_that_have_finished_are_skipped_and_one_that_fails_does_not_stop_the_rest(
    trained, tmp_path
):
    runs = [planned(tmp_path / name, seed=i) for i, name in enumerate(["done", "bad", "good"])]
    settings = dict(check(runs[0].config).settings)
    write_run(runs[0].folder, 0.5, 0.5, settings=settings, epochs=2)
    runs[0].config.epochs = 2
    told = Told()
    assert run_all(runs, 1, told) == {"bad": "it is bad"}
    assert trained == ["bad", "good"]
    assert told == [(3, 1), "bad", ("bad", "it is bad"), "good", ("good", "")]


def test_two_at_once_are_started_together(trained, tmp_path):
    told = Told()
    run_all([planned(tmp_path / str(i), seed=i) for i in range(3)], 2, told)
    assert told[:3] == [(3, 0), "0", "1"]
    assert trained == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"method": "none", "batch_stats": "both"}, "^second: batch_stats=both has no effect"),
        ({"seed": 0, "tensorboard": False}, "^first and second are the same run: what they differ"),
        ({"distributed": True}, "^second: .*could not join a cluster"),
        ({"epochs": 3}, r"second holds a run with other settings \(epochs=30 there, 3 here\)"),
    ],
)
def test_all_are_checked_before_the_first_run(trained, tmp_path, second, message):
    first, second = (
        planned(tmp_path / "first"),
        planned(tmp_path / "second", **{"seed": 1} | second),
    )
    write_run(second.folder, 0.5, settings={"epochs": 30})
    with pytest.raises(ValueError, match=message):
        run_all([first, second], 1, Told())
    assert trained == []
    assert not first.folder.exists()


def test_a_config_that_cannot_be_sent_is_one_message(trained, tmp_path):
    run = planned(tmp_path / "run")
    run.config.method = {"name": "sam", "rho": lambda step: 0.1}
    with pytest.raises(ValueError, match=r"cannot be sent to another process.*by --index"):
        run_all([run], 1, Told())


def test_whether_a_run_is_complete_is_told_by_the_settings_that_are_wanted(tmp_path):
    wanted = {"epochs": 2, "patience": 0}
    finished = write_run(tmp_path / "finished", 0.5, 0.5, epochs=2)
    assert jobs._is_complete(finished, wanted)
    assert not jobs._is_complete(finished, wanted | {"epochs": 3})
    assert not jobs._is_complete(write_run(tmp_path / "under_way", 0.5, epochs=2), wanted)
    assert not jobs._is_complete(tmp_path / "not_begun", wanted)
    (finished / "metrics.jsonl").write_text("{}\n{}\n")
    assert not jobs._is_complete(finished, wanted)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores cannot be chosen here")
def test_processes_share_the_cores_and_one_that_dies_is_replaced(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    workers = [jobs._Worker(share, 2, tmp_path) for share in (0, 1)]
    run = planned(tmp_path / "run")
    try:
        dead = workers[0].submit(die, run)
        assert "was killed, or crashed" in workers[0].outcome(dead).error
        found = [each.outcome(each.submit(surroundings, run)).result for each in workers]
    finally:
        for each in workers:
            each.close()
    usable = os.sched_getaffinity(0)
    assert found[0]["cores"] | found[1]["cores"] == usable
    if len(usable) > 1:
        assert not found[0]["cores"] & found[1]["cores"]
    for each in found:
        assert ("eigen=false" in each["XLA_FLAGS"]) == (len(each["cores"]) == 1)
        assert each["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.375"
        assert each["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path)
