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
"""

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Callable, Iterator
from typing import BinaryIO

from vasso_jax.files import check_file
from vasso_jax.runs.files import NO_LOCKS


@contextlib.contextmanager
def lock_of_run(path: pathlib.Path, warn: Callable[[str], object]) -> Iterator[None]:
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
        _sign(file, path)
        yield


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
        return path.open("ab", buffering=0)
    except OSError as error:
        raise OSError(
            f"the run folder {path.parent} cannot be written ({error.strerror or error}): give "
            "another --workdir, or fix that"
        ) from error


def _sign(file: BinaryIO, path: pathlib.Path) -> None:
    """Says who holds the lock."""
    since = datetime.datetime.now().astimezone().isoformat(" ", timespec="seconds")
    holder = {"host": socket.gethostname(), "process": os.getpid(), "since": since}
    try:
        file.truncate(0)
        file.write(json.dumps(holder).encode())
    except OSError as error:
        raise OSError(f"{path} cannot be written ({error.strerror})") from error


def _holder(path: pathlib.Path) -> str:
    try:
        holder = json.loads(path.read_bytes())
        return f"process {holder['process']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has only just taken it
        return "another process"
