"""Keeps what libraries log off the screen of the commands."""

import sys
import threading

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
