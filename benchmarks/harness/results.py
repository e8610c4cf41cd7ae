"""Results as JSON files."""

import json
import pathlib
import tempfile
from typing import Any

from vasso_jax.runs import write_text


def write_json(path: pathlib.Path, content: Any) -> None:
    """Replaces the file atomically, so that a killed process leaves nothing that looks complete.

    Args:
        path: of the file; missing folders are created.
        content: values that JSON can hold.

    Raises:
        OSError: the file cannot be written.
        ValueError: a number is not finite.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def check_writable(path: pathlib.Path, *, folder: bool = False) -> None:
    """Ends in an OSError unless `path`, a file or a `folder`, can be written; makes its folders."""
    if path.is_dir() and not folder:
        raise IsADirectoryError(f"{path} is a folder: give a file")
    place = path if folder else path.parent
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=place):
        pass


def read_records(path: pathlib.Path | None) -> list[dict[str, Any]]:
    """The records in a file that `write_json` has written; none if there is no such file yet.

    Raises:
        ValueError: the file is damaged or holds something else.
    """
    records = read_json(path) if path and path.exists() else []
    if not isinstance(records, list) or not all(isinstance(each, dict) for each in records):
        raise ValueError(f"{path} holds something else than records: give another file")
    return records


def read_json(path: pathlib.Path) -> Any:
    """What `write_json` has written.

    Raises:
        ValueError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing") from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error})") from error
