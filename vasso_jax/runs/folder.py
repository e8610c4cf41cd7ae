"""The run folder itself: the names of its files, its format, and which run may use it."""

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from vasso_jax.runs.facts import differing_facts
from vasso_jax.runs.files import read_object, write_text
from vasso_jax.runs.lock import lock_of_run
from vasso_jax.runs.records import Record, is_complete, out_of_patience, read
from vasso_jax.runs.settings import as_json, differences, flatten, may_change

# Of the folder, in config.json. Files of format 1 do not carry it.
FORMAT = 4

_CONFIG = "config.json"
_LEAVE_OUT = "leave this run out"
_REPAIR = f"repair it, or {_LEAVE_OUT}"
_OTHER_WORKDIR = "give another --workdir"


class RunFolder:
    """The folder of one run, which need not exist yet; see `vasso_jax.runs` for its content.

    Attributes:
        path: of the folder, as given.
        config_path, dataset_path, metrics_path, curves_path, wandb_id_path, sharpness_path,
                density_path, slice_path, lock_path: of its files.
        checkpoints_path: of the folder in it with one folder per checkpoint.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(path)
        self.config_path = self.path / _CONFIG
        self.dataset_path = self.path / "dataset.json"
        self.metrics_path = self.path / "metrics.jsonl"
        self.curves_path = self.path / "curves.png"
        self.wandb_id_path = self.path / "wandb_run_id"
        self.sharpness_path = self.path / "sharpness.json"
        self.density_path = self.path / "density.png"
        self.slice_path = self.path / "slice.png"
        self.lock_path = self.path / "run.lock"
        self.checkpoints_path = self.path / "checkpoints"

    def lock(self, warn: Callable[[str], object]) -> contextlib.AbstractContextManager[None]:
        """Keeps other runs out; creates the folder where it is missing. See `lock_of_run`."""
        return lock_of_run(self.lock_path, warn)

    def remove_if_empty(self) -> None:
        """Leaves nothing of a run that was refused before it began; to be called by its holder."""
        with contextlib.suppress(OSError):  # there is something in it
            self.checkpoints_path.rmdir()
        with contextlib.suppress(OSError):
            if [*self.path.iterdir()] == [self.lock_path]:
                self.lock_path.unlink()
                self.path.rmdir()

    def check_writable(self, remedy: str) -> None:
        """Creates the folder where it is missing.

        Args:
            remedy: what the user can do, or what is lost; ends the message.

        Raises:
            OSError: it cannot be created or written.
        """
        try:
            self.checkpoints_path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path) as probe:
                probe.write(b"is there room?")
        except OSError as error:
            raise OSError(
                f"the run folder {self.path} cannot be written ({error.strerror}): {remedy}"
            ) from error

    def open_for(self, settings: Mapping[str, Any]) -> None:
        """Creates the folder, or checks that it can be used for the run `settings`.

        A folder in which no run has begun can be used for any run.

        Args:
            settings: nested dicts of values that JSON can hold.

        Raises:
            OSError: the folder cannot be created or written.
            ValueError: it holds a run with other settings or of another format, config.json is
                damaged or missing, or the settings are not valid JSON.
        """
        self.check_writable(f"{_OTHER_WORKDIR}, or fix that")
        self.check_settings(settings)

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Checks that the folder, if it exists, can be used for the run `settings`.

        Args:
            settings: as for `open_for`.

        Raises:
            OSError, ValueError: as for `open_for`, but nothing is created or written.
        """
        if not self.config_path.exists():
            if self.has_begun():
                raise ValueError(
                    f"{self.path} holds a run whose config.json is missing: bring it back, or "
                    f"{_OTHER_WORKDIR}"
                )
            return
        changed = differences(
            self.settings(remedy=_OTHER_WORKDIR), settings, may_change(flatten(settings))
        )
        if changed and self.has_begun() and not self.extended_from(settings):
            raise ValueError(
                f"{self.path} holds a run with other settings ({'; '.join(changed)}): "
                f"{_OTHER_WORKDIR}, or delete that one"
            )

    def extended_from(self, settings: Mapping[str, Any]) -> int | None:
        """The epochs of the finished run in this folder, if `settings` only add further ones.

        Raises:
            OSError, ValueError: as for `open_for`.
        """
        if not self.config_path.exists():
            return None
        old = self.settings(remedy=_OTHER_WORKDIR)
        epochs, more = old.get("epochs"), settings.get("epochs")
        if not (isinstance(epochs, int) and isinstance(more, int) and 0 < epochs < more):
            return None
        if differences(old, settings, may_change(flatten(settings)) | {"epochs"}):
            return None
        records, patience = self.records(), old.get("patience", 0)
        if not is_complete(records, epochs, patience):
            return None
        if out_of_patience(records, patience):
            raise ValueError(
                f"the run in {self.path} has stopped, as its patience={patience} was over: more "
                f"epochs have no effect; {_OTHER_WORKDIR}"
            )
        return epochs

    def write_facts(self, settings: Mapping[str, Any], dataset_facts: Mapping[str, Any]) -> None:
        """Writes config.json, with the format, and dataset.json.

        The field `extended` of config.json lists the epochs at which the run had finished before it
        was given more: it is not the run that would have had so many from the start.

        Args:
            settings: as for `open_for`.
            dataset_facts: sizes, class names and so on; values that JSON can hold.

        Raises:
            OSError: a file cannot be written.
            ValueError: the run in this folder began with other data, or the settings have a
                field called `format`.
        """
        if "format" in settings:
            raise ValueError("settings cannot have a field called format: config.json has its own")
        changed = []
        if self.dataset_path.exists():
            changed = self.changed_facts(dataset_facts, remedy=_OTHER_WORKDIR)
        if changed and self.has_begun():
            raise ValueError(
                f"the data set is not the one that the run in {self.path} began with "
                f"({'; '.join(changed)}): bring that one back, or {_OTHER_WORKDIR}"
            )
        extended = []
        if self.config_path.exists() and self.has_begun():
            extended = self.settings(remedy=_OTHER_WORKDIR).get("extended", [])
            if (before := self.extended_from(settings)) is not None:
                extended = [*extended, before]
        content = {"format": FORMAT, **settings, **({"extended": extended} if extended else {})}
        contents = ((self.dataset_path, dataset_facts), (self.config_path, content))
        for path, content in contents:
            write_text(path, json.dumps(as_json(content), indent=2) + "\n")

    def earlier_epochs(self) -> list[int]:
        """The epochs at which the run had finished before it was given more.

        Raises:
            OSError, ValueError: config.json cannot be read.
        """
        return read_object(self.config_path, _OTHER_WORKDIR).get("extended", [])

    def changed_facts(
        self, dataset_facts: Mapping[str, Any], remedy: str = _LEAVE_OUT
    ) -> list[str]:
        """In what a data set differs from that of the run; see `runs.differences`.

        Args:
            dataset_facts: as for `write_facts`.
            remedy: see `facts`, whose errors are raised.
        """
        return differing_facts(self.facts(remedy), dataset_facts)

    def has_begun(self) -> bool:
        """Whether the folder holds any result: a record or a complete checkpoint."""
        has_records = self.metrics_path.exists() and self.metrics_path.stat().st_size > 0
        return has_records or bool(self.saved_steps())

    def saved_steps(self) -> list[int]:
        """The steps of all complete checkpoints, in ascending order."""
        # A checkpoint that is being written, or was put aside, has a longer name.
        return sorted(
            int(path.name) for path in self.checkpoints_path.glob("*") if path.name.isdecimal()
        )

    def settings(self, remedy: str = _LEAVE_OUT) -> dict[str, Any]:
        """The settings in config.json, nested and without the format.

        Those of a finished run that was given more epochs, of which it has recorded none yet, are
        the ones with which it finished.

        Args:
            remedy: what the user can do if they cannot be read; ends the message.

        Raises:
            ValueError: this is not a run folder, its format is an older or newer one, or
                config.json is damaged.
            OSError: config.json cannot be read.
        """
        path = self.config_path
        if not path.is_file():
            raise ValueError(f"{self.path} is not a run folder (no config.json): {remedy}")
        settings = read_object(path, remedy)
        found = settings.pop("format", 1)
        if type(found) is not int:
            raise ValueError(f"{path} is damaged (its format is {found!r}): {remedy}")
        if found > FORMAT:
            raise ValueError(
                f"{self.path} needs a newer vasso_jax (format {found}, this version reads "
                f"{FORMAT}): install that, or {remedy}"
            )
        if found < FORMAT:
            raise ValueError(
                f"{self.path} was written by an older version of vasso_jax (format {found}, this "
                f"version reads {FORMAT}): {remedy}, or use the version that wrote it"
            )
        if extended := settings.get("extended"):
            records = self.records(remedy)
            if not records or records[-1]["epoch"] <= extended[-1]:
                settings["epochs"] = extended.pop()
        if not extended:
            settings.pop("extended", None)
        return settings

    def facts(self, remedy: str = _LEAVE_OUT) -> dict[str, Any]:
        """The facts about the data set in dataset.json; see `facts.py`.

        Args:
            remedy: what the user can do if they cannot be read; ends the message.

        Raises:
            ValueError: dataset.json is missing or damaged.
            OSError: it cannot be read.
        """
        return read_object(self.dataset_path, remedy)

    def records(self, remedy: str = _REPAIR) -> list[Record]:
        """The records in metrics.jsonl; none if there is no such file yet.

        Args:
            remedy: what the user can do if they cannot be read; ends the message.

        Raises:
            ValueError: a line other than an incomplete last one is not a record, or a record was
                lost, doubled or moved; see `continuity.py`.
            OSError: the file cannot be read.
        """
        return read(self.metrics_path, remedy)


def run_folders(path: pathlib.Path) -> list[pathlib.Path]:
    """The run folders below a folder, sorted; `path` alone if it is one, or holds none."""
    found = []
    for folder, below, files in os.walk(path):
        if _CONFIG in files:
            found.append(pathlib.Path(folder))
            below.clear()  # no run lies within another one
    return sorted(found) or [path]
