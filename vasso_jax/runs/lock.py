"""The lock of a run: no two processes write one run folder.

It is an flock(2) on a file in the folder, held for the life of the run. The kernel releases it when
the process ends, however that happens, so none is left behind. Two calls in one process exclude
each other as well. Readers do not need it.

What it excludes depends on where the folder lies. On a local file system: all processes of the
machine. On NFS: those of all hosts, unless it is mounted with `nolock` or `local_lock` (nfs(5)). On
SMB since Linux 5.5: those of all hosts. On Lustre: those of all hosts where it is mounted with
`flock`, those of one host with `localflock`; without either there are no locks. On a bucket that is
mounted by FUSE: as a rule those of one host, as the kernel then locks by itself. Where there are no
locks, a warning says so, and the run goes on.

The file holds a JSON object: `host`, `process` and `since` of who took the lock last, and
`seconds`, how long all its holders are known to have trained.
"""

import contextlib
import datetime
import fcntl
import json
import math
import os
import pathlib
import socket
from collections.abc import Callable, Iterator
from typing import BinaryIO

from vasso_jax.files import check_file
from vasso_jax.runs.files import NO_LOCKS

# A damaged number can be any.
_LONGEST_SECONDS = 1e9


class HeldLock:
    """A lock that is held.

    Attributes:
        seconds: how long the holders before this one are known to have trained.
    """

    def __init__(self, file: BinaryIO, path: pathlib.Path):
        """Says who holds the lock; `file` is locked.

        Raises:
            OSError: the file cannot be written.
        """
        self.seconds = _seconds(path)
        since = datetime.datetime.now().astimezone().isoformat(" ", timespec="seconds")
        self._holder = {"host": socket.gethostname(), "process": os.getpid(), "since": since}
        self._file = file
        try:
            # What is longer is cut off afterwards: so the file is never empty.
            self._write(self.seconds)
            file.truncate(file.tell())
        except OSError as error:
            raise OSError(f"{path} cannot be written ({error.strerror})") from error

    def sign(self, seconds: float) -> None:
        """Leaves a sign of life, as far as that can be written.

        Args:
            seconds: how long all holders have trained until now; not less than before.
        """
        with contextlib.suppress(OSError):
            self._write(seconds)

    def _write(self, seconds: float) -> None:
        # Over what is there, which is not longer, but for what another holder has left.
        self._file.seek(0)
        tenths = math.floor(10 * seconds)
        self._file.write(json.dumps({**self._holder, "seconds": tenths / 10}).encode())


@contextlib.contextmanager
def lock_of_run(path: pathlib.Path, warn: Callable[[str], object]) -> Iterator[HeldLock]:
    """Keeps other runs out of a folder, which is created where it is missing.

    Args:
        path: of the file to lock, in the folder. It stays there when the lock is released; what is
            in it says who took the lock last.
        warn: is given a message where the file system has no locks.

    Raises:
        ValueError: a run holds the lock; the message names its host and process.
        OSError: the file cannot be created or locked.
    """
    with contextlib.closing(_locked(path, warn)) as file:
        yield HeldLock(file, path)


def _locked(path: pathlib.Path, warn: Callable[[str], object]) -> BinaryIO:
    while True:
        file = _open(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise ValueError(
                f"the run folder {path.parent} is in use by {_holder(path)}: wait for its end or "
                "stop it, or give another --workdir"
            ) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                file.close()
                raise OSError(f"{path} cannot be locked ({error.strerror})") from error
            warn(
                f"the file system of {path.parent} has no locks ({error.strerror}): take care that "
                "no other process trains there"
            )
            return file
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # a run that was refused has removed it since it was opened


def _open(path: pathlib.Path) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            check_file(path)
        # For writing, as NFS wants it; what is in it is the holder's.
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
    except OSError as error:
        raise OSError(
            f"the run folder {path.parent} cannot be written ({error.strerror or error}): give "
            "another --workdir, or fix that"
        ) from error


def _seconds(path: pathlib.Path) -> float:
    try:
        seconds = json.loads(path.read_bytes())["seconds"]
        return float(seconds) if 0 <= seconds < _LONGEST_SECONDS else 0.0
    except (OSError, ValueError, KeyError, TypeError):  # there is none
        return 0.0


def _holder(path: pathlib.Path) -> str:
    try:
        holder = json.loads(path.read_bytes())
        return f"process {holder['process']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has only just taken it
        return "another process"
