"""Errors that the user can fix."""

import contextlib
import pathlib
from collections.abc import Iterator

# The exit status where a process ends at once and the same command may succeed: EX_TEMPFAIL of
# sysexits.h.
RESUMABLE = 75


class UsageError(Exception):
    """Bad input or environment; the message says what to do, and commands print just that.

    Attributes:
        status: the exit status of a command that ends with it.
    """

    status = 2


class DamagedCheckpoint(UsageError):
    """Files of a checkpoint are damaged or missing; `reason` says what was found."""

    def __init__(self, checkpoint: pathlib.Path, reason: str):
        super().__init__(f"the checkpoint {checkpoint} is damaged ({reason})")
        self.reason = reason


class DataError(UsageError):
    """An image cannot be read or decoded in the middle of a run."""


class LostProcess(UsageError):
    """Another process of the run has died, or cannot be reached."""

    status = RESUMABLE


class SilentCorruption(UsageError):
    """A step that was computed twice came out differently; on another machine it may be right."""

    status = RESUMABLE


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Turns a ValueError or OSError of the enclosed set-up call into a UsageError.

    The leaves of the package raise the built-in types with a message fit for the user; this is
    where such an error stops being a bug of the caller and becomes an answer.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error


class Stopped(Exception):
    """A run was told to stop and has saved its state; `signal_number` is what told it."""

    def __init__(self, step: int, total_steps: int, signal_number: int):
        super().__init__(
            f"stopped at step {step} of {total_steps}, everything saved: run the same command "
            "again to resume there"
        )
        self.signal_number = signal_number
