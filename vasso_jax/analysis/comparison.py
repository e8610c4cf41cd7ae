"""Several runs side by side: load their folders, group them by settings, summarise over seeds."""

import dataclasses
import json
import math
import pathlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scipy import special

# Two runs that differ in these only repeat one another with other random numbers.
SEEDS = ("seed", "label_noise_seed")
# These say where things are or how they are shown, and make no other experiment.
INCIDENTAL = frozenset(
    {
        *("data_dir", "workers", "on_damaged", "distributed", "fsdp"),
        *("tensorboard", "wandb_project", "checkpoint_every_steps"),
    }
)
# Where these differ, they come first in a group's name.
_PROMINENT = ("dataset", "model", "optimizer", "rho", "theta")


@dataclasses.dataclass(frozen=True)
class Run:
    """What the folder of a run says.

    Attributes:
        folder: where it lies.
        config: its fields, from config.json.
        data: sizes, class names and statistics of its data set, from dataset.json.
        tests: the records of the test split in order, from metrics.jsonl; at least one.
    """

    folder: pathlib.Path
    config: Mapping[str, Any]
    data: Mapping[str, Any]
    tests: Sequence[Mapping[str, Any]]

    @property
    def seeds(self) -> tuple[int, ...]:
        """What the run was drawn with; equal ones make runs of two groups a pair."""
        noisy = self.config.get("label_noise")
        return tuple(self.config.get(name) or 0 for name in SEEDS[: 2 if noisy else 1])

    @property
    def epochs(self) -> int:
        """The epochs it is to have."""
        return self.config["epochs"]

    @property
    def finished(self) -> bool:
        """Whether its last epoch has been tested."""
        return self.tests[-1]["epoch"] >= self.epochs

    @property
    def last_top1(self) -> float:
        """Test accuracy of the last epoch, in 0..1."""
        return self.tests[-1]["top1"]

    @property
    def best_top1(self) -> float:
        """Test accuracy of the best epoch, in 0..1."""
        return max(record["top1"] for record in self.tests)


@dataclasses.dataclass(frozen=True)
class Group:
    """Finished runs that differ in their seeds only; `name` is where other groups differ."""

    name: str
    runs: Sequence[Run]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Mean over n runs and their standard deviation (n - 1 in the denominator; None for one)."""

    mean: float
    std: float | None
    n: int


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """Mean of n differences and the ends of its 95 % confidence interval."""

    mean: float
    low: float
    high: float
    n: int


def load_run(folder: pathlib.Path) -> Run:
    """Reads the folder of a run that has finished or is under way.

    Raises:
        ValueError: it is no run folder, has no test record yet, or a file is damaged; the message
            says which and what to do.
        OSError: a file cannot be read.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is no run folder (no config.json): give what main.py wrote")
    settings, data = (_read_object(folder / name) for name in ("config.json", "dataset.json"))
    if not isinstance(settings.get("epochs"), int):
        raise ValueError(f"{folder / 'config.json'} has no epochs: leave this run out")
    data.pop("label_noise", None)  # it is among the settings, and differs between seeds
    metrics = folder / "metrics.jsonl"
    records = _read_records(metrics) if metrics.exists() else []
    tests = tuple(record for record in records if record["split"] == "test")
    if not tests:
        raise ValueError(f"{folder} has no test record yet: wait for one, or leave the run out")
    return Run(folder, settings, data, tests)


def _read_object(path: pathlib.Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise ValueError(f"{path} is missing or damaged: leave this run out") from error


def _read_records(path: pathlib.Path) -> list[dict[str, Any]]:
    """The records; of a test record all is checked that is read here."""
    *lines, rest = path.read_bytes().split(b"\n")
    del rest  # empty, or a record that is just being written
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            numbers = ("epoch", "top1", "loss", "seconds") if record["split"] == "test" else ()
            records.append(record | {name: record[name] + 0 for name in numbers})
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"line {number} of {path} is damaged: repair it, or leave the run out"
            ) from error
    return records


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """The finished runs, those together that differ in their seeds only, in order of appearance.

    A group is named by the fields in which the groups differ, such as `optimizer=vasso theta=0.4`;
    fields that are None or empty are left out.

    Raises:
        ValueError: a run is there twice, or two of a group were trained on different data.
    """
    groups: dict[str, dict[tuple[int, ...], Run]] = {}
    for run in runs:
        if not run.finished:
            continue
        members = groups.setdefault(json.dumps(_identity(run), sort_keys=True), {})
        twin = members.setdefault(run.seeds, run)
        if twin is not run:
            raise ValueError(
                f"{twin.folder} and {run.folder} are the same run (settings and seed): "
                "leave one out"
            )
        first = next(iter(members.values()))
        if first.data != run.data:
            raise ValueError(
                f"{first.folder} and {run.folder} have the same settings, but not the same data "
                "(see dataset.json): leave one out"
            )
    identities = [json.loads(key) for key in groups]
    fields = sorted({name for identity in identities for name in identity}, key=_prominence)
    naming = [f for f in fields if any(i.get(f) != identities[0].get(f) for i in identities)]
    return [
        Group(_name(identity, naming or _PROMINENT[:3]), tuple(members.values()))
        for identity, members in zip(identities, groups.values(), strict=True)
    ]


def _identity(run: Run) -> dict[str, Any]:
    """The fields that make it the experiment it is."""
    # Of these sets the folder is all the name they have.
    own = {"data_dir"} if run.config.get("dataset") in ("folder", "npz") else set()
    incidental = (INCIDENTAL - own).union(SEEDS)
    return {name: value for name, value in run.config.items() if name not in incidental}


def _prominence(field: str) -> tuple[int, str]:
    return (_PROMINENT.index(field) if field in _PROMINENT else len(_PROMINENT), field)


def _name(identity: Mapping[str, Any], fields: Sequence[str]) -> str:
    given = [f"{f}={identity[f]}" for f in fields if identity.get(f) not in (None, "")]
    return " ".join(given or [f"{field} unset" for field in fields])


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and standard deviation of at least one value."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return Estimate(statistics.fmean(values), std, len(values))


def paired_difference(ours: Mapping[Any, float], theirs: Mapping[Any, float]) -> PairedDifference:
    """Mean of ours minus theirs over the seeds that both have, with its 95 % interval.

    The interval is Student's, mean +- t(0.975, n - 1) * s / sqrt(n) with s the standard deviation
    of the differences: it takes these to be normal, and covers what the seeds change, nothing else.

    Args:
        ours: value by seed.
        theirs: value by seed, drawn alike wherever the seed is the same.

    Raises:
        ValueError: they share fewer than two seeds.
    """
    differences = [value - theirs[seed] for seed, value in ours.items() if seed in theirs]
    n = len(differences)
    if n < 2:
        raise ValueError(f"a paired difference wants two seeds in both at least, there are {n}")
    mean = statistics.fmean(differences)
    t = float(special.stdtrit(n - 1, 0.975))
    margin = t * statistics.stdev(differences) / math.sqrt(n)
    return PairedDifference(mean, mean - margin, mean + margin, n)
