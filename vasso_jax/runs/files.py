"""Files that are written atomically, and JSON objects that are read with a clear error."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from vasso_jax.files import check_file, read_file

# None of our files has more than ten.
_MAX_LEVELS = 100
# What a file system answers to flock(2) that has no locks.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


def write_text(path: pathlib.Path, text: str) -> None:
    """`write_bytes` of the text in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Replaces the file atomically: after a crash it is the old one or the new one.

    Args:
        path: the file, in a folder that exists. The content is first written to `path` + ".tmp".
        content: all of the new content.

    Raises:
        OSError: it cannot be written; the message names the file.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise OSError(f"{path} cannot be written ({error.strerror})") from error


def sync_folder(folder: pathlib.Path) -> None:
    """Waits until a folder, all that is in it and its own name are on disk.

    Raises:
        OSError: that failed.
    """
    for path in (*folder.rglob("*"), folder, folder.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Keeps other processes out that would change the same file; waits for them.

    Where the file system has no locks, it keeps nobody out.

    Args:
        path: the file. An empty one, `path` + ".lock", is left beside it: removing it would let
            another process in. The lock ends with the process.

    Raises:
        OSError: it cannot be written or locked; the message names the file.
    """
    lock = path.with_name(path.name + ".lock")
    with contextlib.ExitStack() as stack:
        if lock.exists():
            check_file(lock)
        try:
            file = stack.enter_context(lock.open("w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise OSError(f"{lock} cannot be locked ({error.strerror})") from error
        yield


def load_json(content: bytes) -> Any:
    """The value that a JSON text stands for.

    Raises:
        ValueError: it is not valid JSON, or nested more than 100 levels deep.
    """
    try:
        value = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if _is_deeper(value, _MAX_LEVELS):
        raise ValueError("it is nested too deeply")
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return not levels or any(_is_deeper(each, levels - 1) for each in inner)


def read_object(path: pathlib.Path, remedy: str) -> dict[str, Any]:
    """Reads a file that holds one JSON object.

    Args:
        path: the file.
        remedy: what the user can do if it is missing or damaged; ends the message.

    Raises:
        ValueError: it is missing or not a JSON object; the message names the file.
        OSError: it cannot be read; likewise.
    """
    try:
        content = load_json(read_file(path))
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing: {remedy}") from error
    except OSError as error:
        raise OSError(f"{error}: {remedy}") from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): {remedy}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged (not a JSON object): {remedy}")
    return content
