"""Many small runs of the trainer on one machine: several at once, each on a core of its own.

A run that has finished is not started again, and one that was stopped goes on where it was. On two
cores this is about twice as fast as one run after another on both, as XLA gains little from a
second core in networks this small.
"""

import contextlib
import multiprocessing
import os
import pathlib
import time
from collections.abc import Sequence
from concurrent import futures
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from vasso_jax.runs import RunFolder, differences, flatten, may_change, read_run


class PlannedRun(NamedTuple):
    """A run that is wanted: its folder and its config."""

    folder: pathlib.Path
    config: ConfigDict


def run_all(planned: Sequence[PlannedRun], processes: int, cache: pathlib.Path) -> None:
    """Trains what has not finished, in this order, and prints one line per run.

    Args:
        planned: folders are created where missing.
        processes: how many at once.
        cache: folder for compiled programs, shared by all.

    Raises:
        ValueError: a folder holds a run with other settings, or a run cannot be trained.
    """
    waiting = [run for run in planned if not has_finished(run)]
    done = len(planned) - len(waiting)
    print(f"{len(planned)} runs, {done} of them finished before", flush=True)
    if not waiting:
        return
    # Each process starts afresh: JAX does not survive a fork.
    context = multiprocessing.get_context("spawn")
    cores = context.SimpleQueue()
    for i in range(processes):
        cores.put(i)
    with futures.ProcessPoolExecutor(processes, context, _settle, (cores, cache)) as pool:
        running = {pool.submit(_train, run): run for run in waiting}
        try:
            for future in futures.as_completed(running):
                result, seconds = future.result()
                done += 1
                print(
                    f"[{done}/{len(planned)}] {running[future].folder.name}: test top-1 "
                    f"{result['test_top1']:.4f}, {seconds:.0f} s",
                    flush=True,
                )
        except BaseException:
            # Ctrl-C reaches all processes, but a failure or SIGTERM only this one: the other runs
            # save and stop.
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def has_finished(run: PlannedRun) -> bool:
    """Whether the run is there and complete.

    Raises:
        ValueError: it is, with other settings.
    """
    try:
        there = read_run(run.folder)
    except ValueError:
        return False  # not begun, or the trainer will say what is wrong
    if not there.finished:
        return False
    wanted = run.config.to_dict()
    changed = differences(RunFolder(run.folder).settings(), wanted, may_change(flatten(wanted)))
    if changed:
        raise ValueError(
            f"{run.folder} holds a run with other settings ({'; '.join(changed)}): delete it, or "
            "give another --runs"
        )
    return True


def _settle(cores: Any, cache: pathlib.Path) -> None:
    """Gives this process its core, before JAX counts them."""
    core = cores.get()
    if hasattr(os, "sched_setaffinity"):
        usable = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {usable[core % len(usable)]})
    one_thread = "--xla_cpu_multi_thread_eigen=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {one_thread}".strip()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache.absolute()))
    # The step is the same program for all data sets of one size, if the seed is.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def _train(run: PlannedRun) -> tuple[dict[str, Any], float]:
    """The result of `train`, and the seconds that all of it took."""
    # Only here, with the environment set.
    import jax

    from vasso_jax.train import Stopped, UsageError, train

    start = time.perf_counter()
    try:
        with (
            pathlib.Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
        ):
            result = train(run.config, str(run.folder))
    except UsageError as error:
        raise ValueError(f"{run.folder}: {error}") from error
    except Stopped as stopped:
        raise SystemExit(128 + stopped.signal_number) from stopped
    # The programs of other seeds are of no use to the next run.
    jax.clear_caches()
    return result, time.perf_counter() - start
