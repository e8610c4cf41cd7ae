"""Makes elements ahead of their use, in threads or in processes, by grain."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from typing import Any

_MAX_THREADS = 16


def read_ahead(make: Callable[[int], Any], numbers: range, workers: int) -> Iterator[Any]:
    """Iterates over `make(number)` in order; the result does not depend on `workers`.

    Args:
        make: expensive; picklable, if there are workers.
        numbers: one after the other, without gaps.
        workers: processes that make them; 0: threads of this process, one per core.

    Raises (on iteration):
        whatever making an element raises.
    """
    import grain  # what reads no images from disk starts without it

    elements = grain.MapDataset.range(numbers.start, numbers.stop).map(make)
    if not workers:
        threads = min(_MAX_THREADS, _cores())
        iterator = iter(elements.to_iter_dataset(grain.ReadOptions(threads, threads + 1)))
        with contextlib.closing(iterator):
            yield from iterator
        return
    _pass_for_parsed_flags()
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
    ahead = elements.to_iter_dataset(grain.ReadOptions(1, 1))
    iterator = iter(ahead.mp_prefetch(options, worker_init_fn=_end_with_parent))
    with contextlib.closing(iterator):
        with _stop_signals_held_back():
            first = next(iterator, None)
        if first is not None:
            yield first
            yield from iterator


def _cores() -> int:
    """The number of cores that this process may use, or that the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _stop_signals_held_back() -> Iterator[None]:
    """Blocks SIGINT and SIGTERM: here until the end of the block, and for good in new children.

    Ctrl-C and a cluster's SIGTERM reach every process, but only this one decides how to stop: it
    still needs batches to reach a step at which it can. Children inherit the blocked signals.
    """
    # Starting it later would unblock both signals.
    resource_tracker.ensure_running()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _end_with_parent(index: int, count: int) -> None:
    """Runs in each worker, so that none outlives a parent that was killed."""
    del index, count
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _pass_for_parsed_flags() -> None:
    """grain's workers read absl's flags, which a program without absl never parses."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
