"""Where a run's numbers go: metrics.jsonl, and from there to the dashboards."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from vasso_jax.train.dashboards import Dashboard
from vasso_jax.train.workdir import write_text

Record = dict[str, Any]


class RecordFile:
    """`metrics.jsonl`: one JSON object a record, in the order of steps.

    The file is the run's only memory of its results. A record is on disk before the checkpoint of
    its step, so after a crash everything up to the restored step is there, and `keep_until` drops
    the rest, which the resumed run writes again.
    """

    def __init__(self, workdir: pathlib.Path, *, writable: bool = True):
        """Reads what is there.

        Args:
            workdir: the run folder.
            writable: false on all processes but the first: they keep new records in memory only.

        Raises:
            ValueError: a line other than the last is no record.
            OSError: the file cannot be read.
        """
        self._path = workdir / "metrics.jsonl"
        self._writable = writable
        self._dashboards: Sequence[Dashboard] = ()
        self.records: list[Record] = _read(self._path) if self._path.exists() else []

    def show_on(self, dashboards: Sequence[Dashboard]) -> None:
        """Sends the numbers of each further record there too."""
        self._dashboards = dashboards

    def keep_until(self, step: int) -> None:
        """Drops the records beyond `step`, and a last line cut short.

        Raises:
            OSError: the file cannot be written.
        """
        self.records = [record for record in self.records if record["step"] <= step]
        if self._writable:
            write_text(self._path, "".join(map(_line, self.records)))

    def append(self, record: Record) -> None:
        """Adds a record and waits until it is on disk.

        Raises:
            OSError: the disk is full, or the file cannot be written.
            ValueError: a number is not finite; JSON has no word for it.
        """
        line = _line(record)
        self.records.append(record)
        if not self._writable:
            return
        try:
            with self._path.open("a") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(
                f"{self._path} cannot be written ({error.strerror}): mend that, then run the same "
                "command again to go on from the last checkpoint"
            ) from error
        split = record["split"]
        scalars = {f"{split}/{k}": v for k, v in record.items() if isinstance(v, float)}
        for dashboard in self._dashboards:
            dashboard.write(record["step"], scalars)

    def close(self) -> None:
        """Closes the dashboards."""
        for dashboard in self._dashboards:
            dashboard.close()


def _read(path: pathlib.Path) -> list[Record]:
    lines = path.read_bytes().splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            # What every reader relies on.
            numbers = {name: int(record[name]) for name in ("step", "epoch")}
            records.append(record | numbers | {"split": str(record["split"])})
        except (ValueError, TypeError, KeyError) as error:
            # Only the last line can be the work of a process killed while writing.
            if number < len(lines):
                raise ValueError(
                    f"line {number} of {path} is damaged: repair it, or start in a new workdir"
                ) from error
    return records


def _line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


def of_test(records: Sequence[Record]) -> list[Record]:
    """The records of the test split, in order."""
    return [record for record in records if record["split"] == "test"]
