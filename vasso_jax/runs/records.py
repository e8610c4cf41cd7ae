"""The records of a run: metrics.jsonl, and from there to the dashboards.

A record is one JSON object on one line. Every record has `step` (int), `epoch` (int, those that are
complete) and `split`: `train`, `validation` or `test`, `train_steps` for the means over the last
steps within an epoch, `sharpness` for `lambda_1` and `trace` of the Hessian after it, or `healed`
where the run went on from the checkpoint of this step, as later ones were damaged (`put_aside` has
their new names). A record of validation or test also has `top1` (in 0..1), `loss` and `seconds`
(since the run began, over all its starts, without what was lost). A record of `train`, and of what
is tested after the last of these, also say where the time of the run went until then, over all its
starts: `training_seconds`, `evaluating_seconds`, `saving_seconds`, `starting_seconds`,
`lost_seconds`, and `goodput`, the share of the first in their sum; see `vasso_jax.train.goodput`.
Everything else is optional.

Without a validation split, the test split is evaluated while the run is trained. With one, that
split is, and at the end two records of the test split follow: first, with `checkpoint` = `best`,
that of the checkpoint with the best validation accuracy, then that of the last one.
"""

import json
import math
import os
import pathlib
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from vasso_jax.files import read_file
from vasso_jax.runs.continuity import Continuity
from vasso_jax.runs.files import load_json, write_text

Record = dict[str, Any]

EVALUATED = ("test", "validation")
# The fields of a record of the sharpness.
OF_SHARPNESS = ("lambda_1", "trace")
# The fields that say where the time went.
OF_TIME = (
    *("training_seconds", "evaluating_seconds", "saving_seconds", "starting_seconds"),
    *("lost_seconds", "goodput"),
)
_NUMBERS_OF_EVALUATED = ("top1", "loss", "seconds")


class Dashboard(Protocol):
    """Receives the numbers of each record."""

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """The numbers of a record, by name, at an optimizer step."""
        ...

    def close(self) -> None:
        """No more of them will come."""
        ...


def parse(content: bytes, name: object, remedy: str) -> list[Record]:
    """The records in the content of a metrics.jsonl, which must follow on each other.

    A last line without its newline is being written, or was cut short by a crash. It counts if it
    is a complete record, and is dropped otherwise.

    Args:
        content: all bytes of the file.
        name: of the file, for the message.
        remedy: what the user can do if a line is damaged; ends the message.

    Raises:
        ValueError: any other line is not a record, or a record was lost, doubled or moved, as far
            as `continuity.py` can tell.
    """
    *lines, rest = content.split(b"\n")
    records, continuity = [], Continuity()
    for number, line in enumerate([*lines, rest], start=1):
        record = _parse_line(line)
        if record is not None:
            if broken := continuity.break_at(record):
                raise ValueError(
                    f"line {number} of {name} does not follow on the one before ({broken}), so a "
                    f"record was lost, doubled or moved: {remedy}"
                )
            records.append(record)
        elif number <= len(lines):
            raise ValueError(f"line {number} of {name} is damaged: {remedy}")
    return records


def _parse_line(line: bytes) -> Record | None:
    """The record, or None if it lacks what every reader relies on."""
    try:
        record = load_json(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("split"), str):
        return None
    numbers = _NUMBERS_OF_EVALUATED if record["split"] in EVALUATED else ()
    # Not by isinstance: True is an int, too.
    valid = all(type(record.get(field)) is int for field in ("step", "epoch")) and all(
        type(record.get(field)) in (int, float) and abs(record[field]) < math.inf
        for field in numbers
    )
    return record if valid else None


def read(path: pathlib.Path, remedy: str) -> list[Record]:
    """The records in a metrics.jsonl; none if the file does not exist.

    Args:
        path: of the file.
        remedy: what the user can do if a line is damaged; ends the message.

    Raises:
        ValueError: as for `parse`.
        OSError: the file cannot be read; the message names it.
    """
    try:
        content = read_file(path)
    except FileNotFoundError:
        return []
    return parse(content, path, remedy)


def of_split(records: Iterable[Record], split: str) -> list[Record]:
    """The records of the weights of their own step on a split, in order."""
    return [r for r in records if r["split"] == split and "checkpoint" not in r]


def rank(record: Record) -> float:
    """What makes a checkpoint the best: its top-1, or that of the average of the weights."""
    return record.get("ema_top1", record["top1"])


def by_rank(records: Sequence[Record], steps: Iterable[int]) -> list[int]:
    """Of the steps of some checkpoints those that were evaluated, the best first.

    Of equally good ones, the latest comes first.

    Args:
        records: of the run.
        steps: the optimizer step of each checkpoint.
    """
    ranks = {record["step"]: rank(record) for record in evaluations(records)}
    evaluated = [step for step in steps if step in ranks]
    return sorted(evaluated, key=lambda step: (ranks[step], step), reverse=True)


def of_best_checkpoint(records: Iterable[Record]) -> Record | None:
    """The newest record of the test of the checkpoint with the best validation accuracy."""
    found = [r for r in records if r["split"] == "test" and r.get("checkpoint") == "best"]
    return found[-1] if found else None


def evaluations(records: Sequence[Record]) -> list[Record]:
    """The records that the best checkpoint is picked by: of the validation, else of the test."""
    return of_split(records, "validation") or of_split(records, "test")


def out_of_patience(records: Sequence[Record], patience: int) -> bool:
    """Whether so many of the last validations were no better than one before them.

    Args:
        records: of a run, which was validated `patience` times or more.
        patience: 0: never.
    """
    accuracies = list(map(rank, of_split(records, "validation")))
    earlier = accuracies[:-patience] if patience else ()
    return bool(earlier) and max(earlier) >= max(accuracies[-patience:])


def is_complete(records: Sequence[Record], epochs: int, patience: int) -> bool:
    """Whether the run has ended, and its final weights have been tested.

    Args:
        records: of the run.
        epochs, patience: its settings.
    """
    tests, validations = of_split(records, "test"), of_split(records, "validation")
    if not tests:
        return False
    ended = tests[-1]["epoch"] >= epochs or out_of_patience(records, patience)
    return ended and not (validations and validations[-1]["step"] > tests[-1]["step"])


def until(records: Sequence[Record], step: int) -> Sequence[Record]:
    """The records that a run has which goes on at this step: those before any later one.

    Without the test of the best checkpoint, if that of the last one is missing.
    """
    later = (number for number, record in enumerate(records) if record["step"] > step)
    kept = records[: next(later, len(records))]
    return kept[:-1] if kept and "checkpoint" in kept[-1] else kept


def digest(records: Iterable[Record]) -> dict[str, int]:
    """By what records are known again: `count`, and `crc32` of their lines."""
    lines = [_line(record) for record in records]
    return {"count": len(lines), "crc32": zlib.crc32("".join(lines).encode())}


class RecordFile:
    """The metrics.jsonl of a run that is being trained.

    The file is the run's only memory of its results. A record is on disk before the checkpoint of
    its step. So after a crash everything up to the restored step is there, and `keep_until` drops
    the rest, which the resumed run writes again.
    """

    def __init__(self, path: pathlib.Path, *, writable: bool = True):
        """Reads the records that are there.

        Args:
            path: of metrics.jsonl, which need not exist.
            writable: False on all processes but the first, which keep new records in memory only.

        Raises:
            ValueError: as for `parse`.
            OSError: the file cannot be read; the message names it.
        """
        self._path = path
        self._writable = writable
        self._dashboards: Sequence[Dashboard] = ()
        self.records: list[Record] = read(path, "repair it, or start in a new workdir")
        self._crc32 = digest(self.records)["crc32"]

    @property
    def digest(self) -> dict[str, int]:
        """That of all records; see the function of this name."""
        return {"count": len(self.records), "crc32": self._crc32}

    def show_on(self, dashboards: Sequence[Dashboard]) -> None:
        """Sends the floats of each further record to these dashboards too."""
        self._dashboards = dashboards

    def keep_until(self, step: int) -> None:
        """Drops all but the records `until` this step, and an incomplete last line.

        To be called before the first `append` to a file that was there before.

        Raises:
            OSError: the file cannot be written.
        """
        self.records = [*until(self.records, step)]
        self._crc32 = digest(self.records)["crc32"]
        if self._writable:
            write_text(self._path, "".join(map(_line, self.records)))

    def append(self, *records: Record) -> None:
        """Adds records and waits until they are on disk.

        Raises:
            OSError: the disk is full, or the file cannot be written.
            ValueError: a number is not finite, which JSON cannot express.
        """
        lines = "".join(map(_line, records))
        self.records += records
        self._crc32 = zlib.crc32(lines.encode(), self._crc32)
        if not self._writable:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(
                f"{self._path} cannot be written ({error.strerror}): fix that, then run the same "
                "command again to continue from the last checkpoint"
            ) from error
        for record in records:
            name = "/".join(filter(None, (record["split"], record.get("checkpoint"))))
            scalars = {f"{name}/{k}": v for k, v in record.items() if isinstance(v, float)}
            for dashboard in self._dashboards:
                # Not an earlier step than before, which dashboards may leave out.
                dashboard.write(records[-1]["step"], scalars)

    def close(self) -> None:
        """Closes the dashboards."""
        for dashboard in self._dashboards:
            dashboard.close()


def _line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"
