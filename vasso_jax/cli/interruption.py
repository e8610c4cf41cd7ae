"""Ctrl-C while there is nothing to save: one line, and the end of the process at once."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

# To a terminal: the line of a progress bar is empty, and the cursor is there again.
_NO_BAR = b"\r\x1b[2K\x1b[?25h"


@contextlib.contextmanager
def ended_by_ctrl_c(message: Callable[[], str] = lambda: "interrupted") -> Iterator[None]:
    """Inside this context Ctrl-C ends the process, with status 130.

    Not by KeyboardInterrupt: raised within a callback of a library it would be lost, and within the
    import of one it can come out as another error.

    Args:
        message: what is said then, on standard error.
    """

    def leave(number: int, frame: object) -> NoReturn:
        del frame
        if sys.stdout.isatty():
            # A progress bar hides the cursor, and its thread would draw it once more.
            os.write(sys.stdout.fileno(), _NO_BAR)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # sys.stderr itself goes through the bar while there is one.
        print(message(), file=sys.__stderr__, flush=True)
        os._exit(128 + number)

    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
