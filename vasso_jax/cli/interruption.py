"""Ctrl-C: one line and status 130, however early it comes.

A command does this first, so nothing is loaded here that takes time.
"""

# `signal` is this with enums, and loads them first: time enough for a Ctrl-C that ends in a trace.
import _signal as signal  # pyright: ignore[reportMissingImports]
import os

# To a terminal: the line of a progress bar is empty, and the cursor is there again.
_NO_BAR = b"\r\x1b[2K\x1b[?25h"


def leave_on_interrupt() -> None:
    """From now on Ctrl-C ends the process at once.

    Not by KeyboardInterrupt: raised while modules are loaded, or within a callback of a library, it
    would be lost or end in a trace.
    """
    signal.signal(signal.SIGINT, EndedByCtrlC()._handler)


class EndedByCtrlC:
    """Within this context Ctrl-C ends the process at once, with a message of its own."""

    # The type is Callable[[], str]; to import that takes time.
    def __init__(self, message=lambda: "interrupted"):
        """`message`: what is said then, on standard error."""
        self._handler = _leaving(message)

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGINT, self._handler)

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self._before)


class Interruptible(EndedByCtrlC):
    """Within this context Ctrl-C raises KeyboardInterrupt, for what has something to tidy up."""

    def __init__(self):
        self._handler = signal.default_int_handler


def _leaving(message):
    def leave(number: int, frame: object) -> None:
        del frame
        try:
            if os.isatty(1):
                # A progress bar hides the cursor, and its thread would draw it once more.
                os.write(1, _NO_BAR)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            # sys.stderr goes through the bar while there is one.
            os.write(2, message().encode() + b"\n")
        finally:  # whether anybody reads it or not
            os._exit(128 + number)

    return leave
