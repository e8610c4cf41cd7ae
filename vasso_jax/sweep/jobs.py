"""Many runs of the trainer on one machine: several at once, each in a process of its own.

On a CPU, each process has its own share of the cores. On two cores, two runs at once are about
twice as fast as one after another on both, as XLA gains little from a second core in small
networks.
"""

import contextlib
import json
import multiprocessing
import os
import pathlib
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, NamedTuple, Protocol

from vasso_jax.runs import SEEDS, RunFolder, flatten, identity, is_complete
from vasso_jax.sweep import worker
from vasso_jax.sweep.worker import Outcome
from vasso_jax.train.config.fields import Config

# Each process starts afresh: JAX does not survive a fork.
_CONTEXT = multiprocessing.get_context("spawn")
_DIED = "its process was killed, or crashed; if memory was short, give fewer --jobs"
_SECONDS_BETWEEN_REFRESHES = 1.0


class PlannedRun(NamedTuple):
    """A run that is wanted: its folder, which is created where missing, and its config."""

    folder: pathlib.Path
    config: Config


class Progress(Protocol):
    """What is told how the runs go on."""

    def begin(self, total: int, finished: int) -> None:
        """Once, with the number of runs and of those that had finished before."""

    def started(self, run: PlannedRun) -> None:
        """A run has been given to a process."""

    def ended(self, run: PlannedRun, outcome: Outcome) -> None:
        """A run has finished, failed or stopped."""

    def refresh(self) -> None:
        """About once per second, while runs are under way."""


def run_all(
    planned: Sequence[PlannedRun],
    jobs: int,
    progress: Progress,
    cache: pathlib.Path | None = None,
) -> dict[str, str]:
    """Checks all runs, and then trains those that have not finished, in this order.

    A run that was stopped goes on where it was. One that fails does not stop the others. If this
    call is interrupted (KeyboardInterrupt; SystemExit by a handler of SIGTERM), the runs save and
    stop before the exception is passed on.

    Args:
        planned: runs in folders of different names.
        jobs: how many at once.
        progress: told of each run.
        cache: folder for compiled programs, shared by all; None: that of the machine.

    Returns:
        Why they failed, by the names of the folders of the runs that did.

    Raises:
        ValueError: a config cannot be trained, two are the same run, or a folder holds a run with
            other settings. Nothing has been trained then.
    """
    shares = max(1, min(jobs, len(planned)))
    workers = [_Worker(i, shares, cache) for i in range(shares)]
    try:
        # One process: a check takes less time than another process needs to start.
        settings = _check(planned, workers[:1])
        waiting = [run for run in planned if not _is_complete(run.folder, settings[run.folder])]
        progress.begin(len(planned), len(planned) - len(waiting))
        failures: dict[str, str] = {}
        for run, outcome in _on_workers(workers, worker.train_run, waiting, progress):
            progress.ended(run, outcome)
            if outcome.error:
                failures[run.folder.name] = outcome.error
        return failures
    except (KeyboardInterrupt, SystemExit) as interruption:
        # The other signal than what reached this process, as that may have reached all of them,
        # and a second one of the same number would not let them save.
        by_hand = isinstance(interruption, KeyboardInterrupt)
        for each in workers:
            each.stop(signal.SIGTERM if by_hand else signal.SIGINT)
        raise
    finally:
        for each in workers:
            each.close()


def _is_complete(folder: pathlib.Path, settings: Mapping[str, Any]) -> bool:
    """Whether the folder holds all of the run `settings`: a finished run may be given more."""
    try:
        records = RunFolder(folder).records()
    except ValueError:
        return False  # the trainer will say what is wrong
    return is_complete(records, settings["epochs"], settings["patience"])


def _check(
    planned: Sequence[PlannedRun], workers: Sequence["_Worker"]
) -> dict[pathlib.Path, dict[str, Any]]:
    """The settings of all runs, by their folders; refuses all if one of them cannot be trained."""
    found = {
        run.folder: outcome for run, outcome in _on_workers(workers, worker.check_run, planned)
    }
    same: dict[str, str] = {}
    for run in planned:
        name, (settings, error, _) = run.folder.name, found[run.folder]
        if settings is None:
            raise ValueError(f"{name}: {error}")
        RunFolder(run.folder).check_settings(settings)
        fields = flatten(settings)
        important = {**identity(fields), **{name: fields.get(name) for name in SEEDS}}
        if (twin := same.setdefault(json.dumps(important), name)) != name:
            raise ValueError(
                f"{twin} and {name} are the same run: what they differ in changes no result"
            )
    return {folder: dict(outcome.result or {}) for folder, outcome in found.items()}


def _on_workers(
    workers: Sequence["_Worker"],
    task: Callable[..., Outcome],
    runs: Iterable[PlannedRun],
    progress: Progress | None = None,
) -> Iterator[tuple[PlannedRun, Outcome]]:
    """Each run with what the task made of it, in the order in which they end."""
    idle, running = [*workers], {}
    waiting = iter(runs)
    while True:
        while idle and (run := next(waiting, None)):
            each = idle.pop(0)
            running[each.submit(task, run)] = each, run
            if progress:
                progress.started(run)
        if not running:
            return
        ended, _ = futures.wait(running, _SECONDS_BETWEEN_REFRESHES, futures.FIRST_COMPLETED)
        for future in ended:
            each, run = running.pop(future)
            idle.append(each)
            yield run, each.outcome(future)
        if progress:
            progress.refresh()


class _Worker:
    """A process that does one task after another, and is replaced when it dies."""

    def __init__(self, share: int, shares: int, cache: pathlib.Path | None):
        """Arguments as for `worker.settle`; the process starts at the first task."""
        settle = (share, shares, cache)
        self._make_pool = partial(futures.ProcessPoolExecutor, 1, _CONTEXT, worker.settle, settle)
        self._start()

    def _start(self) -> None:
        self._pool = self._make_pool()
        self._process_id: futures.Future[int] | None = None

    def submit(self, task: Callable[..., Outcome], run: PlannedRun) -> futures.Future[Outcome]:
        """Begins a task on a run.

        Raises:
            ValueError: the config cannot be sent to another process.
        """
        try:
            packed = worker.pack(run.config)
        except ValueError as error:
            raise ValueError(f"{run.folder.name}: {error}") from error
        if self._process_id is None:
            self._process_id = self._pool.submit(os.getpid)
        try:
            return self._pool.submit(task, packed, run.folder)
        except BrokenProcessPool:  # by the task before
            self._start()
            return self.submit(task, run)

    def outcome(self, future: futures.Future[Outcome]) -> Outcome:
        """That of a task which has ended."""
        try:
            return future.result()
        except BrokenProcessPool:
            return Outcome(None, _DIED, 0.0)

    def stop(self, number: signal.Signals) -> None:
        """Sends the process a signal, if there is one."""
        if self._process_id is not None and self._process_id.done():
            with contextlib.suppress(BrokenProcessPool, ProcessLookupError):
                os.kill(self._process_id.result(), number)

    def close(self) -> None:
        """Waits for the end of the process."""
        self._pool.shutdown(cancel_futures=True)
