"""Several runs side by side: groups of runs that repeat one experiment with other seeds."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vasso_jax.runs.run import Run
from vasso_jax.runs.settings import identity
from vasso_jax.runs.statistics import PairedDifference, paired_difference

# Where groups differ in these fields, their names begin with them.
_PROMINENT = ("data.name", "model.name", "method.name", "method.rho", "method.theta")


@dataclasses.dataclass(frozen=True)
class Group:
    """Finished runs that differ in their seeds only; `name` has the fields where groups differ."""

    name: str
    runs: Sequence[Run]


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Puts finished runs that differ in their seeds only into one group, in order of appearance.

    Runs with different fields are different groups, but for fields that may change on resume. A
    group is named by the fields in which the groups differ, such as
    `method.name=vasso method.theta=0.4`. Fields that are None or empty are left out.

    Raises:
        ValueError: a run is there twice, or two runs of a group were trained on different data.
    """
    # A list, as identities have lists as values; there are few groups.
    found: list[tuple[dict[str, Any], dict[tuple[int, ...], Run]]] = []
    for run in runs:
        if not run.finished:
            continue
        mine = identity(run.config)
        members = next((members for other, members in found if other == mine), None)
        if members is None:
            members = {}
            found.append((mine, members))
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
    names = distinct_names([fields for fields, _ in found])
    return [
        Group(name, tuple(members.values()))
        for name, (_, members) in zip(names, found, strict=True)
    ]


def distinct_names(identities: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each of several experiments, by the fields in which they differ.

    Args:
        identities: the fields of each by dotted name, see `settings.identity`; no two are equal.
    """
    naming = _naming_fields(identities)
    names: list[str] = []
    for label in (_short, _full):
        names = [_name(fields, naming, label) for fields in identities]
        if len({*names}) == len(names):
            break
    return names


def _naming_fields(identities: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    """The fields that tell the groups apart, the prominent ones first."""
    naming = {
        field
        for field in {name for fields in identities for name in fields}
        if _differs(field, identities)
    }
    return sorted(naming, key=prominence) or _PROMINENT[:3]


def _differs(field: str, identities: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the field tells groups apart.

    A `name`, such as `base.name`, stands for all fields of its section. So the momentum that only
    SGD has does not, where the other groups use Adam.
    """
    section, _, last = field.rpartition(".")
    by_itself = last == "name" or field in _PROMINENT
    first_of: dict[str, Any] = {}
    for fields in identities:
        of = "" if by_itself else str(fields.get(f"{section}.name"))
        if first_of.setdefault(of, fields.get(field)) != fields.get(field):
            return True
    return False


def prominence(field: str) -> tuple[Any, ...]:
    """A sort key: prominent fields, then the others by section, each with its name first."""
    if field in _PROMINENT:
        return (_PROMINENT.index(field),)
    section, _, last = field.rpartition(".")
    return (len(_PROMINENT), section, last != "name", last)


def _name(
    fields: Mapping[str, Any], naming: Sequence[str], label: Callable[[str, Any], str]
) -> str:
    given = [label(field, fields[field]) for field in naming if field in fields]
    return " ".join(given or [f"{field} unset" for field in naming])


def _short(field: str, value: Any) -> str:
    if field in ("data.name", "model.name", "method.name"):
        return str(value)
    return f"{field.removeprefix('method.')}={value}"


def _full(field: str, value: Any) -> str:
    return f"{field}={value}"


def differences_to(
    baseline: Group, groups: Iterable[Group], value: Callable[[Run], float]
) -> dict[str, PairedDifference]:
    """How far each group is from `baseline`, over the seeds that both have.

    Args:
        baseline: itself left out of the result.
        groups: any; those with fewer than two seeds in common with `baseline` are left out.
        value: of a run, to be compared.

    Returns:
        The mean of group minus baseline by the name of the group.
    """
    theirs = {run.seeds: value(run) for run in baseline.runs}
    found = {}
    for group in groups:
        ours = {run.seeds: value(run) for run in group.runs}
        if group.name != baseline.name and len(ours.keys() & theirs.keys()) > 1:
            found[group.name] = paired_difference(ours, theirs)
    return found


def budgets(groups: Iterable[Group]) -> list[str]:
    """The lengths of training, where they differ: a comparison of unequal ones is not fair.

    Returns:
        Such as `30 epochs of 1,438 images, batch 128`, in order of appearance; empty if all are
        equal.
    """
    found = dict.fromkeys(
        f"{range_of([run.tests[-1]['epoch'] for run in group.runs])} epochs of "
        f"{group.runs[0].data['train_images']:,} images, batch {group.runs[0].config['batch_size']}"
        for group in groups
    )
    return list(found) if len(found) > 1 else []


def range_of(values: Sequence[int]) -> str:
    """Such as 30, or 12-30 where runs have stopped early."""
    return "-".join(map(str, sorted({min(values), max(values)})))
