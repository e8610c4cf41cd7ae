"""One run as it is read back from its folder."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from vasso_jax.runs.folder import RunFolder
from vasso_jax.runs.records import of_split, of_test
from vasso_jax.runs.settings import SEEDS, flatten

# What else a record of the test holds.
_NO_METRICS = ("step", "epoch", "split", "seconds", "lr")


@dataclasses.dataclass(frozen=True)
class Run:
    """What the folder of a run says.

    Attributes:
        folder: its path.
        config: the settings by dotted name, such as `method.rho`, from config.json.
        data: sizes, class names and statistics of its data set, from dataset.json.
        tests: the records of the test split in order, from metrics.jsonl; at least one.
        training: those of the train split.
    """

    folder: pathlib.Path
    config: Mapping[str, Any]
    data: Mapping[str, Any]
    tests: Sequence[Mapping[str, Any]]
    training: Sequence[Mapping[str, Any]] = ()

    @property
    def evaluations(self) -> Sequence[Mapping[str, Any]]:
        """The records that curves over epochs are drawn from."""
        return self.tests

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that were used; runs of two groups with equal seeds form a pair.

        The seed of the label noise counts only if there is label noise, and that of the method only
        if it is not the seed of the run.
        """
        seed, of_noise, of_method = map(self.config.get, SEEDS)
        seeds = [seed]
        if any(name.startswith("label_noise.") for name in self.config):
            seeds.append(of_noise)
        if of_method is not None and of_method != seed:
            seeds.append(of_method)
        return tuple(seed or 0 for seed in seeds)

    @property
    def epochs(self) -> int:
        """The number of epochs of the complete run."""
        return self.config["epochs"]

    @property
    def finished(self) -> bool:
        """Whether the last epoch has been tested."""
        return self.tests[-1]["epoch"] >= self.epochs

    def last(self, metric: str = "top1") -> float:
        """A metric of the last test, such as `top1`, in 0..1, or `loss`.

        Raises:
            ValueError: the test has no such metric.
        """
        return self._values(metric)[-1]

    def best(self, metric: str = "top1") -> float:
        """The best value of a metric in any test: the least loss, or the highest of another one.

        Raises:
            ValueError: the test has no such metric.
        """
        return (min if metric == "loss" else max)(self._values(metric))

    def _values(self, metric: str) -> list[float]:
        known = [name for name in self.tests[-1] if name not in _NO_METRICS]
        if metric not in known:
            raise ValueError(f"{self.folder} has no test {metric}, only {', '.join(known)}")
        return [record[metric] for record in self.tests if metric in record]


def read_run(folder: pathlib.Path) -> Run:
    """Reads the folder of a run that has finished or is under way.

    Raises:
        ValueError: it is not a run folder, has another format, has no test record yet, or a file
            is damaged; the message says which, and what to do.
        OSError: a file cannot be read.
    """
    reader = RunFolder(folder)
    settings, data = reader.settings(), reader.facts()
    if type(settings.get("epochs")) is not int:
        raise ValueError(f"{reader.config_path} has no epochs: leave this run out")
    data.pop("label_noise", None)  # it is among the settings, and differs between seeds
    records = reader.records()
    tests = tuple(of_test(records))
    if not tests:
        raise ValueError(f"{folder} has no test record yet: wait for one, or leave this run out")
    return Run(folder, flatten(settings), data, tests, tuple(of_split(records, "train")))
