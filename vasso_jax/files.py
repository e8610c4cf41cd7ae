"""Files from outside: opened if they are files, and the reason in one line where they are damaged.

To open a named pipe waits for whoever writes into it, and a device may never end.
"""

import io
import os
import stat

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_LONGEST = 200


def check_file(path: str | os.PathLike[str]) -> None:
    """Raises OSError unless there is a file, or a link to one; the message names the path."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if kind != stat.S_IFREG:
        raise OSError(
            f"{path} cannot be read (it is {_KINDS.get(kind, 'something else')}, no file)"
        )


def open_file(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Opens a file for reading.

    Raises:
        OSError: it is no file, or cannot be opened; the message names the path.
    """
    check_file(path)
    try:
        return open(path, "rb")
    except OSError as error:
        raise _unreadable(path, error) from error


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The content of a file.

    Raises:
        OSError: it is no file, or cannot be read; the message names the path.
    """
    with open_file(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise _unreadable(path, error) from error


def reason(error: BaseException) -> str:
    """What a library says of a damaged file, in one line that is not long.

    Args:
        error: any exception; of one without text, its type.
    """
    return one_line(str(error)) or type(error).__name__


def one_line(text: str) -> str:
    """Text from a file, with single spaces and its beginning only, if it is long."""
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _unreadable(path: str | os.PathLike[str], error: OSError | ValueError) -> OSError:
    """An error of the same kind with a message of ours."""
    kind = type(error) if isinstance(error, OSError) else OSError
    return kind(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})")
