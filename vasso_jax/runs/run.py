"""One run as it is read back from its folder."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from vasso_jax.runs.folder import RunFolder
from vasso_jax.runs.records import (
    OF_TIME,
    Record,
    evaluations,
    is_complete,
    of_best_checkpoint,
    of_split,
    rank,
)
from vasso_jax.runs.settings import SEEDS, flatten
from vasso_jax.runs.sharpness import Measurement, figures_at, is_figure, read_measurements

# What else a record of an evaluation holds.
_NO_METRICS = ("step", "epoch", "split", "checkpoint", "seconds", "lr", *OF_TIME)


@dataclasses.dataclass(frozen=True)
class Run:
    """What the folder of a run says.

    Attributes:
        folder: its path.
        config: the settings by dotted name, such as `method.rho`, from config.json.
        data: sizes, class names and statistics of its data set, from dataset.json.
        records: all of metrics.jsonl in order, with at least one evaluation.
        measurements: all of sharpness.json in order.
        unreadable: why that file cannot be read, if so; `measurements` then is empty.
    """

    folder: pathlib.Path
    config: Mapping[str, Any]
    data: Mapping[str, Any]
    records: Sequence[Record]
    measurements: Sequence[Measurement] = ()
    unreadable: str = ""

    @functools.cached_property
    def tests(self) -> Sequence[Record]:
        """The tests in order, of the weights of their step; with a validation split, at the end."""
        return of_split(self.records, "test")

    @functools.cached_property
    def validations(self) -> Sequence[Record]:
        """The validations in order; none without a validation split."""
        return of_split(self.records, "validation")

    @functools.cached_property
    def training(self) -> Sequence[Record]:
        """The records of the training in order."""
        return of_split(self.records, "train")

    @functools.cached_property
    def evaluations(self) -> Sequence[Record]:
        """The validations, or, without a validation split, the tests: one for most epochs."""
        return evaluations(self.records)

    @functools.cached_property
    def sharpness(self) -> Sequence[Record]:
        """The records of the sharpness during the training, in order."""
        return of_split(self.records, "sharpness")

    @functools.cached_property
    def measured(self) -> Mapping[str, Measurement]:
        """The newest measurement of each figure, by its name, of the checkpoint tested last."""
        return figures_at(self.measurements, self.tests[-1]["step"]) if self.tests else {}

    @property
    def figures(self) -> Mapping[str, float]:
        """What was `measured`, by name."""
        return {name: made.figures[name] for name, made in self.measured.items()}

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that were used; runs of two groups with equal seeds form a pair.

        That of the run, and if one of them is not its default, those of the label noise (by default
        0), the method (that of the run) and the validation split (0).
        """
        seed, of_noise, of_method, of_validation = map(self.config.get, SEEDS)
        seed = seed or 0
        others = (of_noise or 0, seed if of_method is None else of_method, of_validation or 0)
        return (seed,) if others == (0, seed, 0) else (seed, *others)

    @property
    def epochs(self) -> int:
        """The number of epochs of the complete run, if it does not stop early."""
        return self.config["epochs"]

    @property
    def finished(self) -> bool:
        """Whether the run has ended, and its final weights have been tested."""
        return is_complete(self.records, self.epochs, self.config.get("patience") or 0)

    def last(self, metric: str = "top1") -> float:
        """A metric of the last test, such as `top1`, in 0..1, or `loss`; or a figure of `measured`.

        Raises:
            ValueError: the test has no such metric, or the figure was not measured or cannot be
                read.
        """
        if is_figure(metric):
            if self.unreadable:
                raise ValueError(self.unreadable)
            if metric not in self.measured:
                known = f"; there are {', '.join(self.measured)}" if self.measured else ""
                raise ValueError(
                    f"{self.folder} has no {metric} of its last checkpoint{known}: measure it by "
                    "vasso-jax sharpness"
                )
            return self.figures[metric]
        return self._values(self.tests, metric)[-1]

    def best(self, metric: str = "top1") -> float:
        """A metric of the test of the best checkpoint.

        With a validation split, that is the checkpoint with the best validation accuracy. Without
        one it is the best value in any test, the least loss or the highest of another metric: so
        it was picked by the test images themselves.

        Raises:
            ValueError: the test has no such metric.
        """
        if record := of_best_checkpoint(self.records):
            return self._values([record], metric)[0]
        return _best(metric, self._values(self.tests, metric))

    @property
    def ranked_by(self) -> str:
        """The metric by which the best checkpoint is picked."""
        return "ema_top1" if "ema_top1" in self.evaluations[-1] else "top1"

    @property
    def best_epoch(self) -> int:
        """The epoch of the best checkpoint, see `best`; of equally good ones the latest."""
        record = of_best_checkpoint(self.records)
        return (record or max(self.tests, key=lambda r: (rank(r), r["step"])))["epoch"]

    def best_validation(self, metric: str = "top1") -> float:
        """The best value of a metric in any validation.

        Raises:
            ValueError: the validation has no such metric, or there is none.
        """
        return _best(metric, self._values(self.validations, metric))

    def _values(self, records: Sequence[Record], metric: str) -> list[float]:
        known = [name for name in records[-1] if name not in _NO_METRICS] if records else []
        if metric not in known:
            what = records[-1]["split"] if records else "validation"
            other = f"; measured was {', '.join(self.measured)}" if self.measured else ""
            raise ValueError(
                f"{self.folder} has no {what} {metric}, only {', '.join(known)}{other}"
            )
        return [record[metric] for record in records if metric in record]


def _best(metric: str, values: Sequence[float]) -> float:
    return min(values) if metric.endswith("loss") else max(values)


def read_run(folder: pathlib.Path) -> Run:
    """Reads the folder of a run that has finished or is under way.

    A sharpness.json that cannot be read is no error before a figure of it is asked for.

    Raises:
        ValueError: it is not a run folder, has another format, has not been evaluated yet, or a
            file is damaged; the message says which, and what to do.
        OSError: a file cannot be read.
    """
    reader = RunFolder(folder)
    settings, data = reader.settings(), reader.facts()
    if type(settings.get("epochs")) is not int:
        raise ValueError(f"{reader.config_path} has no epochs: leave this run out")
    data.pop("label_noise", None)  # it is among the settings, and differs between seeds
    records = tuple(reader.records())
    if not evaluations(records):
        raise ValueError(f"{folder} has no test record yet: wait for one, or leave this run out")
    measurements, unreadable = [], ""
    try:
        measurements = read_measurements(reader.sharpness_path)
    except (ValueError, OSError) as error:
        unreadable = str(error)
    return Run(folder, flatten(settings), data, records, measurements, unreadable)
