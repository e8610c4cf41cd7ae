"""Keeps what libraries log off the screen."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

from absl import logging


def quieten_libraries() -> None:
    """Leaves standard error to our messages: what matters below comes back as an exception."""
    logging.set_verbosity(logging.FATAL)
    usual = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        # When a checkpoint cannot be written or read, tensorstore's threads print a trace for every
        # array in it, beside the error that orbax raises.
        if threading.current_thread() is threading.main_thread():
            usual(unraisable)

    sys.unraisablehook = hook


@contextlib.contextmanager
def without_standard_error() -> Iterator[None]:
    """Drops what this process writes to standard error, also where no level of logging applies.

    That is how TensorFlow's C++ code speaks while it is loaded. Exceptions are raised as ever.
    """
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
