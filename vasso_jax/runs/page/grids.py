"""Groups that differ in two numbers, as a grid."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from vasso_jax.runs.comparison import Group, distinct_names, prominence
from vasso_jax.runs.settings import identity

# The values of both settings.
Place = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Grid:
    """Groups that differ in two numeric settings, and in nothing else.

    Attributes:
        name: the fields in which this grid differs from the others.
        fields: the two settings by dotted name, of the columns and of the rows.
        columns: the values of the first, ascending.
        rows: those of the second.
        cells: the groups; some may be missing.
    """

    name: str
    fields: tuple[str, str]
    columns: Sequence[float]
    rows: Sequence[float]
    cells: Mapping[Place, Group]


def find_grids(groups: Sequence[Group]) -> list[Grid]:
    """The grids among the groups, one per combination of all other settings.

    Groups with equal settings but for numbers belong together. They are a grid if exactly two
    numbers differ among them.
    """
    parts: dict[str, list[tuple[dict[str, Any], Group]]] = {}
    for group in groups:
        fields = identity(group.runs[0].config)
        parts.setdefault(_without_numbers(fields), []).append((fields, group))
    found = []
    for members in parts.values():
        first = members[0][0]
        differing = [
            name for name in first if any(fields[name] != first[name] for fields, _ in members)
        ]
        if len(differing) == 2:
            found.append((sorted(differing, key=prominence), members))
    rest = [
        {name: value for name, value in members[0][0].items() if name not in differing}
        for differing, members in found
    ]
    names = distinct_names(rest) if rest else []
    return [
        _grid(name, (differing[0], differing[1]), members)
        for name, (differing, members) in zip(names, found, strict=True)
    ]


def _without_numbers(fields: Mapping[str, Any]) -> str:
    """All settings as text, without the values of the numeric ones."""
    return json.dumps({k: None if _is_number(v) else v for k, v in fields.items()}, sort_keys=True)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)  # not by isinstance: True is an int, too


def _grid(
    name: str, fields: tuple[str, str], members: Sequence[tuple[Mapping[str, Any], Group]]
) -> Grid:
    cells = {(settings[fields[0]], settings[fields[1]]): group for settings, group in members}
    columns, rows = (sorted({place[axis] for place in cells}) for axis in (0, 1))
    return Grid(name, fields, columns, rows, cells)
