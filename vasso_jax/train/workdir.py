"""The folder of a run: is it usable, does it hold this very run, and how its files are written."""

import json
import os
import pathlib
import reprlib
import tempfile
from collections.abc import Set
from typing import Any

# These say where things are or how they are shown; a run may go on with others.
_MAY_CHANGE = frozenset(
    {
        *("data_dir", "workers", "on_damaged", "distributed", "fsdp"),
        *("tensorboard", "wandb_project", "checkpoint_every_steps"),
    }
)
_CONFIG, _DATASET = "config.json", "dataset.json"


def check(workdir: pathlib.Path, settings: dict[str, Any]) -> None:
    """Creates the folder, or checks that it can be used for the run `settings`.

    Raises:
        OSError: the folder cannot be created or written.
        ValueError: it holds a run with other settings.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "checkpoints").mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir) as probe:
            probe.write(b"is there room?")
    except OSError as error:
        raise OSError(
            f"workdir {workdir} cannot be written ({error.strerror}): give another --workdir, or "
            "mend that"
        ) from error
    if not (workdir / _CONFIG).exists():
        return
    # Of these sets the folder is all the name they have.
    own = {"data_dir"} if settings.get("dataset") in ("folder", "npz") else set()
    differences = _differences(workdir / _CONFIG, settings, _MAY_CHANGE - own)
    if differences and _has_begun(workdir):
        raise ValueError(
            f"{workdir} holds a run with other settings ({'; '.join(differences)}): "
            "give another --workdir, or delete that one"
        )


def _differences(path: pathlib.Path, ours: dict[str, Any], may_change: Set[str]) -> list[str]:
    """What the JSON object in the file says otherwise, in words."""
    old, new = _read(path), _as_json(ours)
    # A field that only one of the two knows came or went with a version of the code.
    return [
        f"{field}={reprlib.repr(old[field])} there, {reprlib.repr(new[field])} here"
        for field in sorted((old.keys() & new.keys()) - may_change)
        if old[field] != new[field]
    ]


def _has_begun(workdir: pathlib.Path) -> bool:
    """Whether the folder holds any result: a record or a complete checkpoint."""
    records = workdir / "metrics.jsonl"
    return (records.exists() and records.stat().st_size > 0) or any(
        path.name.isdigit() for path in (workdir / "checkpoints").iterdir()
    )


def write_facts(
    workdir: pathlib.Path, settings: dict[str, Any], dataset_facts: dict[str, Any]
) -> None:
    """Writes config.json and dataset.json.

    Raises:
        OSError: one cannot be written.
        ValueError: the run that the folder holds began with other data.
    """
    path = workdir / _DATASET
    differences = _differences(path, dataset_facts, set()) if path.exists() else []
    if differences and _has_begun(workdir):
        raise ValueError(
            f"the data set is another one than that which the run in {workdir} began with "
            f"({'; '.join(differences)}): bring it back, or give another --workdir"
        )
    for name, facts in ((_DATASET, dataset_facts), (_CONFIG, settings)):
        write_text(workdir / name, json.dumps(facts, indent=2) + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Replaces the file at once and durably: a crash leaves the old one or the new one.

    Raises:
        OSError: it cannot be written; names the file.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(f"{path} cannot be written ({error.strerror})") from error


def _as_json(settings: dict[str, Any]) -> dict[str, Any]:
    """As it reads when written and read again: tuples are lists."""
    return json.loads(json.dumps(settings))


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): give another --workdir") from error
