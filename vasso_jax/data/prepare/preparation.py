"""Downloads CIFAR-10 and CIFAR-100, and prepares them as tensorflow-datasets does.

The builders of tensorflow-datasets write what `load` reads; cifar_builders.py makes them work
without TensorFlow. This module handles the rest: the archive, concurrent processes and errors.
"""

import contextlib
import errno
import fcntl
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from vasso_jax.data.prepare.downloading import download, sha256_of
from vasso_jax.data.tfds_copies import tfds_root
from vasso_jax.names import check_choice

_NUM_EXAMPLES = 60_000  # of both splits, in either set


class Archive(NamedTuple):
    """An official archive; `size` is in bytes, and `sha256` hexadecimal."""

    file_name: str
    url: str
    size: int
    sha256: str


# Sizes and checksums as registered in tensorflow-datasets (its folder url_checksums).
_ARCHIVES = {
    "cifar10": Archive(
        file_name="cifar-10-binary.tar.gz",
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        size=170_052_171,
        sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    "cifar100": Archive(
        file_name="cifar-100-binary.tar.gz",
        url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        size=168_513_733,
        sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    ),
}
PREPARABLE = tuple(_ARCHIVES)


def prepare(
    name: str, directory: str = "", *, url: str = "", console: Console | None = None
) -> pathlib.Path:
    """Makes the prepared copy of `name` that `load(name, dir=directory)` reads, unless it exists.

    An archive in DIR or DIR/downloads is used if there is one; otherwise the official archive is
    downloaded to DIR/downloads and kept. If the process is killed, it leaves nothing that looks
    like a prepared copy; the next call resumes the download and cleans up. If several processes
    prepare the same set, one works and the others wait.

    Args:
        name: one of PREPARABLE.
        directory: DIR; empty: $TFDS_DATA_DIR, or ~/tensorflow_datasets.
        url: of the same archive on another server.
        console: where lines and progress bars go; by default standard output. Progress bars are
            shown only in a terminal.

    Returns:
        The folder DIR/NAME/VERSION.

    Raises:
        ValueError: unknown name, or an archive without the files it should have.
        OSError: the archive cannot be downloaded or is another file, or the disk is full or
            read-only; the message says what to do.
    """
    check_choice("data set to prepare", name, PREPARABLE)
    archive = _ARCHIVES[name]
    archive = archive._replace(url=url or archive.url)
    return _prepare(name, tfds_root(directory), archive, console or Console(highlight=False))


def _prepare(name: str, root: pathlib.Path, archive: Archive, console: Console) -> pathlib.Path:
    def note(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    version_dir = root / name / str(_builder(name).VERSION)
    if _is_prepared(version_dir):
        note(f"{name} is already prepared: {version_dir}")
        return version_dir
    with _readable_errors(root), _lock(root / name, note):
        if not _is_prepared(version_dir):  # else by the process that held the lock
            if version_dir.exists():
                raise OSError(f"{version_dir} is no complete copy: delete it, then try again")
            path = _obtain(archive, root, console, note)
            note(f"preparing {name}")
            _write(name, path, version_dir, console)
    note(f"{name} is prepared: {version_dir}")
    return version_dir


def _is_prepared(version_dir: pathlib.Path) -> bool:
    # tensorflow-datasets also writes into another folder first, then renames it.
    return (version_dir / "dataset_info.json").exists()


@contextlib.contextmanager
def _readable_errors(root: pathlib.Path) -> Iterator[None]:
    """Explains disk errors to the user."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(root) from error
        if error.errno is None:  # one of ours, with a message
            raise
        raise OSError(f"cannot work in {root}: {error}.\nChoose another folder as dir.") from error
    except RuntimeError as error:  # array_record's writer raises this for disk errors
        if "No space left" in str(error) or "quota exceeded" in str(error):
            raise _no_space(root) from error
        raise OSError(f"cannot work in {root}: {error}") from error


def _no_space(root: pathlib.Path) -> OSError:
    return OSError(
        f"the disk of {root} is full: an archive and a prepared copy need about 320 MB.\n"
        "Free some space, or choose another folder as dir."
    )


@contextlib.contextmanager
def _lock(folder: pathlib.Path, note: Callable[[str], None]) -> Iterator[None]:
    """Keeps other processes out of `folder`; released when the process ends, or is killed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(f"waiting for another process that works in {folder}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _obtain(
    archive: Archive, root: pathlib.Path, console: Console, note: Callable[[str], None]
) -> pathlib.Path:
    """The verified archive: put there by hand, downloaded before, or downloaded now."""
    downloads = root / "downloads"
    for path in (root / archive.file_name, downloads / archive.file_name):
        if path.exists():
            note(f"using {path}")
            if (found := sha256_of(path)) != archive.sha256:
                raise OSError(
                    f"{path} is damaged or is another file: its SHA-256 is {found}, expected "
                    f"{archive.sha256}.\nReplace it, or remove it to have it downloaded from "
                    f"{archive.url}"
                )
            return path
    path = downloads / archive.file_name
    note(f"downloading {archive.url} to {path}")
    downloads.mkdir(exist_ok=True)
    download(archive.url, path, size=archive.size, sha256=archive.sha256, console=console)
    return path


def _write(name: str, archive: pathlib.Path, version_dir: pathlib.Path, console: Console) -> None:
    """Writes the copy into a staging folder next to `version_dir`, then renames it."""
    import tensorflow_datasets as tfds

    staging = version_dir.parent / "incomplete.vasso_jax"
    if staging.exists():
        shutil.rmtree(staging)  # left by a killed process: this one has the lock
    staging.mkdir()
    progress = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = progress.add_task("", total=_NUM_EXAMPLES)
    builder = _builder(name)(
        archive, lambda: progress.advance(task), data_dir=staging, file_format="array_record"
    )
    # Its progress bars would also be shown without a terminal.
    tfds.display_progress_bar(False)
    try:
        with progress:
            builder.download_and_prepare()
        pathlib.Path(builder.data_dir).rename(version_dir)
    except OSError:
        if not _is_prepared(version_dir):  # else by tensorflow-datasets, which takes no lock
            raise
    finally:
        tfds.display_progress_bar(True)
        shutil.rmtree(staging, ignore_errors=True)


def _builder(name: str) -> Any:
    # Local: tensorflow-datasets is slow to import.
    from vasso_jax.data.prepare import cifar_builders

    return {"cifar10": cifar_builders.Cifar10, "cifar100": cifar_builders.Cifar100}[name]
