"""Downloads one file: resumes where an earlier attempt ended, and verifies the checksum."""

import hashlib
import http.client
import pathlib
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

from vasso_jax.files import check_file, open_file

# A server that sends nothing for so long, or so little within a minute, has stalled.
_TIMEOUT_SECONDS = 30.0
_MINUTE_SECONDS, _MINUTE_BYTES = 60.0, 1 << 16
_BLOCK_BYTES = 1 << 18


class _NetworkError(OSError):
    """The download failed; distinguishes network errors from disk errors."""


def download(url: str, path: pathlib.Path, *, size: int, sha256: str, console: Console) -> None:
    """Downloads `url` to `path`; until it is complete, the file is called `path`.part.

    Args:
        url: HTTP or HTTPS.
        path: in a folder that exists.
        size: in bytes.
        sha256: hexadecimal.
        console: shows a progress bar, if it is a terminal.

    Raises:
        OSError: the download failed, with what to do by hand; or the file cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    part.touch()
    check_file(part)
    by_hand = f"Try again, or get the file in another way and put it at {path}"
    try:
        _complete(part, url, size, console)
    except _NetworkError as error:
        kept = "What was downloaded so far is kept. "
        if not part.stat().st_size:
            part.unlink()
            kept = ""
        raise OSError(f"cannot download {url}: {error}.\n{kept}{by_hand}") from error
    if (found := sha256_of(part)) != sha256:
        part.unlink()
        raise OSError(
            f"{url} gave another file, which has been removed: its SHA-256 is {found}, "
            f"expected {sha256}.\n{by_hand}"
        )
    part.replace(path)


def sha256_of(path: pathlib.Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _complete(part: pathlib.Path, url: str, size: int, console: Console) -> None:
    """Downloads the missing bytes of `part`, up to `size`."""
    have = part.stat().st_size
    if have >= size:
        return
    progress = Progress(
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with progress, part.open("r+b") as file:
        task = progress.add_task("", total=size, completed=have)
        for position, block in _receive(url, have, size):
            file.seek(position)
            file.write(block)
            progress.update(task, completed=file.tell())


def _receive(url: str, start: int, size: int) -> Iterator[tuple[int, bytes]]:
    """The bytes from `start` on, or from 0 if the server only sends whole files.

    Yields:
        A position in the file, and the bytes that belong there.
    """
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
            position = start if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
            length = response.headers["Content-Length"]
            if length is not None and position + int(length) != size:
                raise OSError(f"it is a file of {position + int(length):,} bytes, not {size:,}")
            since, before = time.monotonic(), position
            while block := response.read1(_BLOCK_BYTES):
                if position + len(block) > size:
                    raise OSError(f"it is longer than the {size:,} bytes that it should have")
                yield position, block
                position += len(block)
                if time.monotonic() - since > _MINUTE_SECONDS:
                    if position - before < _MINUTE_BYTES:
                        raise OSError(f"the server sent only {position - before:,} bytes a minute")
                    since, before = time.monotonic(), position
        if position < size:
            raise OSError(f"the server stopped after {position:,} of {size:,} bytes")
    except urllib.error.HTTPError as error:
        error.close()
        raise _NetworkError(f"the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _NetworkError(error.reason) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _NetworkError(error) from error
