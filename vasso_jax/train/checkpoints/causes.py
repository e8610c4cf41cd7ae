"""Why a checkpoint cannot be read or written, and what to do."""

import errno
import os
import pathlib
import re

import jax

from vasso_jax.train.devices import processes
from vasso_jax.train.errors import LostProcess, UsageError

# Not the fault of the files of a checkpoint, nor of where they lie.
NOT_OF_FILES = (MemoryError, ImportError, jax.errors.JaxRuntimeError, UsageError)
# These say that a file is not there, is no file, or has become unreadable on the disk.
_OF_DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO)
_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "allow larger files",
    errno.EROFS: "make the disk writable again",
    errno.EACCES: "allow it to this user",
    errno.EPERM: "allow it to this user",
    errno.ENOENT: "bring that folder back",
    errno.ENOTDIR: "bring that folder back",
    errno.EMFILE: "allow more open files",
}


def is_damage(error: Exception) -> bool:
    """Whether an error in reading a checkpoint is the fault of its files.

    It is not where memory, permissions, code, a device or another process is missing.
    """
    number = _errno(error)
    return not isinstance(error, NOT_OF_FILES) and (number is None or number in _OF_DAMAGE)


def unreadable(checkpoint: pathlib.Path, error: Exception) -> UsageError:
    """The message about a checkpoint that is not damaged, but cannot be read here."""
    return UsageError(
        f"the checkpoint {checkpoint} cannot be read ({brief(error)}): {_remedy(error)}"
    )


def unwritable(directory: pathlib.Path, error: Exception) -> Exception:
    """The message about a checkpoint that could not be written, or `error` where there is none."""
    what = f"a checkpoint could not be written to {directory}"
    if isinstance(error, jax.errors.JaxRuntimeError) and processes.several():
        return lost(what, error)
    if isinstance(error, NOT_OF_FILES):
        return error
    return UsageError(
        f"{what}: {_remedy(error)}, then run the same command again to resume at the last complete "
        f"one.\n({brief(error)})"
    )


def lost(what: str, error: Exception) -> LostProcess:
    """The message about `what` failed as the other processes cannot be reached."""
    return LostProcess(
        f"{what}, as another process of this run has ended or does not answer: see its message, "
        f"then run the same command again.\n({brief(error)})"
    )


def brief(error: Exception) -> str:
    """The first line of an error, without the pages that storage libraries append."""
    lines = str(error).strip().splitlines() or [""]
    number = None if isinstance(error, OSError) else _errno(error)
    cause = f"{os.strerror(number)}: " if number else ""
    return f"{type(error).__name__}: {cause}{lines[0][:300]}"


def _remedy(error: Exception) -> str:
    return _REMEDIES.get(_errno(error) or 0, "fix that")


def _errno(error: Exception) -> int | None:
    """The number of an error of the operating system, also where tensorstore only quotes it."""
    if isinstance(error, OSError):
        return error.errno
    quoted = re.search(r"os_error_code='(\d+)'", str(error))
    return int(quoted[1]) if quoted else None
