"""Settings that are chosen on the validation split, to be reported on the test split."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vasso_jax.runs.comparison import Group
from vasso_jax.runs.settings import identity

_TASK = ("data.", "label_noise.", "validation.")


@dataclasses.dataclass(frozen=True)
class Choice:
    """The settings of one method that are the best on the validation split.

    Attributes:
        method: its name.
        fields: the chosen values by dotted name, such as {"method.rho": 0.1}: of the swept fields,
            and of others in which the candidates differ.
        group: the runs with these settings.
    """

    method: str
    fields: Mapping[str, Any]
    group: Group


def candidates(groups: Iterable[Group], swept: Sequence[str]) -> list[list[Group]]:
    """The groups among which one is to be chosen: those of one method on one task.

    Args:
        groups: those of one method differ in `swept` only.
        swept: dotted names of fields. Those about the data and its labels make another task, whose
            accuracies are not to be compared.

    Returns:
        Lists of groups, in order of appearance.
    """
    task = [field for field in swept if field.startswith(_TASK)]
    found: dict[str, list[Group]] = {}
    for group in groups:
        key = repr([_of(group).get(field) for field in ("method.name", *task)])
        found.setdefault(key, []).append(group)
    return [*found.values()]


def choose(
    groups: Iterable[Group], swept: Sequence[str], metric: str | None = None
) -> list[Choice]:
    """For each method the settings with the best validation, in the mean over the seeds.

    What counts is the best validation of each run. The test takes no part. Of equally good
    settings, the first are chosen.

    Args:
        groups: of runs with a validation split; otherwise as for `candidates`.
        swept: see `candidates`.
        metric: such as `top1`; of a loss, the least is the best; None: what ranks the checkpoints,
            `top1` or that of the average of the weights.

    Returns:
        One choice per method and task, in order of appearance.

    Raises:
        ValueError: a run has no validation split, or no such metric.
    """
    better = min if metric and metric.endswith("loss") else max
    choices = []
    for alternatives in candidates(groups, swept):
        validations = [
            statistics.fmean(run.best_validation(metric or run.ranked_by) for run in group.runs)
            for group in alternatives
        ]
        group = alternatives[validations.index(better(validations))]
        shown = [*swept, *(field for field in _differing(alternatives) if field not in swept)]
        fields = {field: _of(group)[field] for field in shown if field in _of(group)}
        choices.append(Choice(_of(group)["method.name"], fields, group))
    return choices


def _differing(groups: Sequence[Group]) -> list[str]:
    """The fields in which the groups differ, other than seeds."""
    settings = [identity(_of(group)) for group in groups]
    names = dict.fromkeys(name for fields in settings for name in fields)
    return [name for name in names if len({repr(fields.get(name)) for fields in settings}) > 1]


def _of(group: Group) -> Mapping[str, Any]:
    """The settings of the runs, which differ in seeds only."""
    return group.runs[0].config
