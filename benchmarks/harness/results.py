"""Results as JSON files."""

import json
import pathlib
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
