"""Tasks for other processes, which import no more than this."""

import os
import signal

from vasso_jax.sweep.worker import Outcome


def surroundings(packed, folder):
    names = ("XLA_FLAGS", "XLA_PYTHON_CLIENT_MEM_FRACTION", "JAX_COMPILATION_CACHE_DIR")
    found = {name: os.environ.get(name, "") for name in names}
    return Outcome({"cores": os.sched_getaffinity(0), **found}, "", 0.0)


def die(packed, folder):
    os.kill(os.getpid(), signal.SIGKILL)
