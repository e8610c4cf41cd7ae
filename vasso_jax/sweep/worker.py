"""What a process does that trains runs for another one."""

import contextlib
import multiprocessing
import os
import pathlib
import pickle
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from vasso_jax.own_code import what_and_where
from vasso_jax.train.config.fields import Config
from vasso_jax.train.errors import Stopped, UsageError
from vasso_jax.train.reporting.quiet import quieten_libraries

# Of a GPU's memory that JAX reserves by default.
_GPU_SHARE = 0.75


class Outcome(NamedTuple):
    """What came of a check or a run.

    Attributes:
        result: of a check, the complete settings; of a run, that of `train`; None: an error.
        error: in one or two lines; empty: none.
        seconds: that all of it took.
    """

    result: dict[str, Any] | None
    error: str
    seconds: float


def settle(share: int, shares: int, cache: pathlib.Path | None) -> None:
    """Prepares this process, before JAX counts the cores.

    Args:
        share: number of this process among those that share the machine, from 0 on.
        shares: how many they are.
        cache: folder for compiled programs; None: that of the machine.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        first = share * len(cores) // shares
        mine = cores[first : max(first + 1, (share + 1) * len(cores) // shares)]
        os.sched_setaffinity(0, mine)
        if len(mine) == 1:
            one_thread = "--xla_cpu_multi_thread_eigen=false"
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {one_thread}".strip()
    if shares > 1:
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{_GPU_SHARE / shares:.3f}")
    if cache is not None:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache.absolute()))
    quieten_libraries()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave_at_once)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _leave_at_once(number: int, frame: object) -> NoReturn:
    """The effect of a signal outside of training, where there is nothing to save."""
    del frame
    os._exit(128 + number)


def _follow_parent() -> None:
    """Once the process that started this one is dead, saves and stops as by SIGTERM."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def pack(config: Config) -> bytes:
    """The config as it is sent to another process.

    Raises:
        ValueError: it cannot be sent.
    """
    try:
        return pickle.dumps(config)
    except Exception as error:  # whatever is in it may raise anything
        raise _not_sent(error) from error


def _unpack(packed: bytes) -> Config:
    try:
        return pickle.loads(packed)
    except Exception as error:  # as above
        raise _not_sent(error) from error


def _not_sent(error: Exception) -> ValueError:
    return ValueError(
        f"the config cannot be sent to another process ({error}): run this point by --index, "
        "which needs no other process, or give values and names instead of functions"
    )


def check_run(packed: bytes, folder: pathlib.Path) -> Outcome:
    """The complete settings of a config that can be trained; for the arguments see `train_run`."""
    del folder
    # Only here, with the environment set.
    from vasso_jax.train import check

    def settings() -> dict[str, Any]:
        plan = check(_unpack(packed))
        if plan.options.distributed:
            raise ValueError(
                "distributed=True needs a command per run: give each job of the cluster its "
                "--index, or leave the field out"
            )
        return dict(plan.settings)

    return _outcome(settings)


def train_run(packed: bytes, folder: pathlib.Path) -> Outcome:
    """The result of `train`; what it prints is dropped.

    Args:
        packed: the config, see `pack`.
        folder: of the run.
    """
    import jax

    from vasso_jax.train import train
    from vasso_jax.train.devices.compiled_programs import keep_compiled_programs

    keep_compiled_programs()
    with pathlib.Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        outcome = _outcome(lambda: train(_unpack(packed), str(folder)))
    # The next run makes its functions anew.
    jax.clear_caches()
    return outcome


def _outcome(action: Callable[[], dict[str, Any]]) -> Outcome:
    start = time.perf_counter()
    result, error = None, ""
    try:
        result = action()
    except (UsageError, ValueError, Stopped) as refusal:
        error = str(refusal)
    except Exception as bug:  # of this run; the others go on
        error = what_and_where(bug)
    if (parent := multiprocessing.parent_process()) and not parent.is_alive():
        os._exit(1)  # nobody waits for the outcome, and there will be no other task
    return Outcome(result, error, time.perf_counter() - start)
