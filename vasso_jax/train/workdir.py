"""The folder of a run: is it usable, and does it hold this very run?"""

import json
import pathlib
import tempfile
from typing import Any

# These say where things are or how they are shown; a run may go on with others.
_MAY_CHANGE = frozenset(
    {"data_dir", "distributed", "tensorboard", "wandb_project", "checkpoint_every_steps"}
)


def prepare(workdir: pathlib.Path, config: dict[str, Any]) -> None:
    """Creates the folder and its config.json, or checks that both fit.

    Args:
        workdir: of the run.
        config: plain values; written as config.json.

    Raises:
        OSError: the folder cannot be created or written.
        ValueError: a run with other settings was begun there.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir):
            pass
    except OSError as error:
        raise OSError(
            f"workdir {workdir} cannot be written ({error.strerror}): give another --workdir"
        ) from error
    path = workdir / "config.json"
    # As JSON sees it: tuples become lists.
    config = json.loads(json.dumps(config))
    if path.exists() and (workdir / "checkpoints").exists():
        _check_same(workdir, _read(path), config)
    path.write_text(json.dumps(config, indent=2) + "\n")


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}): give another --workdir") from error


def _check_same(workdir: pathlib.Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    differences = [
        f"{field}={old.get(field)!r} there, {new.get(field)!r} here"
        for field in sorted((old.keys() | new.keys()) - _MAY_CHANGE)
        if old.get(field) != new.get(field)
    ]
    if differences:
        raise ValueError(
            f"{workdir} holds a run with other settings ({'; '.join(differences)}): "
            "give another --workdir, or delete that one"
        )
