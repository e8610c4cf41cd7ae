"""Where a run's numbers go: metrics.jsonl, and from there to the dashboards."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from vasso_jax.train.dashboards import Dashboard
from vasso_jax.train.errors import UsageError

Record = dict[str, Any]


class RecordFile:
    """`metrics.jsonl`: one JSON object a record, in the order of steps.

    The file is the run's only memory of its results. A record is on disk before the checkpoint of
    its step, so after a crash everything up to the restored step is there, and `keep_until` drops
    the rest, which the resumed run writes again.
    """

    def __init__(
        self, workdir: pathlib.Path, *, writable: bool = True, dashboards: Sequence[Dashboard] = ()
    ):
        """Args:
        workdir: the run folder.
        writable: false on all processes but the first: they keep the records in memory only.
        dashboards: get the numbers of each record too.
        """
        self._path = workdir / "metrics.jsonl"
        self._writable = writable
        self._dashboards = dashboards
        self.records: list[Record] = []

    def keep_until(self, step: int) -> None:
        """Reads the file and drops what lies beyond `step`, and a last line cut short."""
        self.records = [r for r in read_records(self._path) if r["step"] <= step]
        if not self._writable:
            return
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(_line(record) for record in self.records))
        temporary.replace(self._path)

    def append(self, record: Record) -> None:
        """Adds a record and waits until it is on disk.

        Raises:
            UsageError: the disk is full, or the file cannot be written.
        """
        self.records.append(record)
        if not self._writable:
            return
        try:
            with self._path.open("a") as file:
                file.write(_line(record))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UsageError(
                f"{self._path} cannot be written ({error.strerror}): mend that, then run the same "
                "command again to go on from the last checkpoint."
            ) from error
        split = record["split"]
        scalars = {f"{split}/{k}": v for k, v in record.items() if isinstance(v, float)}
        for dashboard in self._dashboards:
            dashboard.write(record["step"], scalars)

    def close(self) -> None:
        """Closes the dashboards."""
        for dashboard in self._dashboards:
            dashboard.close()


def read_records(path: pathlib.Path) -> list[Record]:
    """The complete records of a metrics.jsonl; empty where there is no file.

    Raises:
        UsageError: a line other than the last is no JSON object.
    """
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise UsageError(
                    f"line {number} of {path} is damaged: repair or delete it, or start in a new "
                    "workdir."
                ) from error
    return records


def _line(record: Record) -> str:
    return json.dumps(record) + "\n"


def best_test_top1(records: list[Record]) -> float:
    """The largest test accuracy among the records."""
    return max(record["top1"] for record in records if record["split"] == "test")
