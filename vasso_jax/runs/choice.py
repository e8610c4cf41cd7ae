"""Settings that are chosen on the validation split, to be reported on the test split."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vasso_jax.runs.comparison import Group


@dataclasses.dataclass(frozen=True)
class Choice:
    """The settings of one method that are the best on the validation split.

    Attributes:
        method: its name.
        fields: the chosen values by dotted name, such as {"method.rho": 0.1}.
        group: the runs with these settings.
    """

    method: str
    fields: Mapping[str, Any]
    group: Group


def choose(groups: Iterable[Group], swept: Sequence[str], metric: str = "top1") -> list[Choice]:
    """For each method the settings with the best validation, in the mean over the seeds.

    What counts is the best validation of each run. The test takes no part. Of equally good
    settings, the first are chosen.

    Args:
        groups: of runs with a validation split. Those of one method differ in `swept` only.
        swept: dotted names of the fields to choose.
        metric: such as `top1`; of a loss, the least is the best.

    Returns:
        One choice per method, in order of appearance.

    Raises:
        ValueError: a run has no validation split, or no such metric.
    """
    methods: dict[str, list[tuple[float, Group]]] = {}
    for group in groups:
        validation = statistics.fmean(run.best_validation(metric) for run in group.runs)
        methods.setdefault(_of(group)["method.name"], []).append((validation, group))
    better = min if metric.endswith("loss") else max
    choices = []
    for method, candidates in methods.items():
        _, group = better(candidates, key=lambda candidate: candidate[0])
        fields = {field: _of(group)[field] for field in swept if field in _of(group)}
        choices.append(Choice(method, fields, group))
    return choices


def _of(group: Group) -> Mapping[str, Any]:
    """The settings of the runs, which differ in seeds only."""
    return group.runs[0].config
