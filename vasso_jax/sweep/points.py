"""The points of a sweep: the values that its fields take, and the name of each run."""

import importlib.util
import itertools
import pathlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from vasso_jax.own_code import own_code

Fields = Mapping[str, Any]


class Point(NamedTuple):
    """One run of a sweep.

    Attributes:
        name: of its folder; no other point of the sweep has it.
        method: as in FILE.py:METHOD; None: the config is taken as it is.
        fields: values by dotted name, such as {"method.rho": 0.1, "seed": 0}.
    """

    name: str
    method: str | None
    fields: Fields


def own_points(path: pathlib.Path) -> list[Fields]:
    """The points that a config file adds by its function `sweep(add)`.

    Args:
        path: of the file; as `add(**{"method.rho": 0.1})`, each call of `add` is a point.

    Returns:
        One empty point if there is no such function.

    Raises:
        ValueError: the function raises an exception, or adds no point.
    """
    spec = importlib.util.spec_from_file_location("swept_config", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "sweep"):
        return [{}]
    points: list[Fields] = []

    def add(**fields: Any) -> None:
        points.append(fields)

    with own_code(f"the points of {path} cannot be made", "sweep(add)"):
        module.sweep(add)
    if not points:
        raise ValueError(f"sweep(add) of {path} adds no point: call add(), or leave it out")
    return points


def make_points(
    own: Sequence[Fields],
    methods: Sequence[str],
    grid: Mapping[str, Sequence[Any]],
    seeds: int | None,
    missing: Callable[[str | None, Fields], Collection[str]],
) -> tuple[list[Point], list[str]]:
    """All combinations, in a fixed order: the last of the arguments varies first.

    A field that only some points have is left out of the others, which then are there once.

    Args:
        own: see `own_points`.
        methods: see `Point.method`; none: that of the config.
        grid: values by dotted name of the field.
        seeds: how many, from 0 on; None: that of the config.
        missing: given method and fields of a point, those of the fields that do not exist there.

    Returns:
        The points, and a line about each field that was left out somewhere.

    Raises:
        ValueError: a field is swept twice, or a point is there twice.
    """
    for fields in own:
        if twice := [field for field in fields if field in grid]:
            raise ValueError(f"{twice[0]} is swept by sweep(add) and by --set: leave one out")
    if seeds is not None:
        grid = {**grid, "seed": range(seeds)}
    found: list[tuple[str | None, dict[str, Any]]] = []
    for fields, method in itertools.product(own, methods or [None]):
        for values in itertools.product(*grid.values()):
            found.append((method, {**fields, **dict(zip(grid, values, strict=True))}))
    for i, point in enumerate(found):
        if point in itertools.islice(found, i):
            raise ValueError(f"{_described(*point)} is there twice: leave one out")
    found, notes = _without_missing(found, missing)
    return _named(found), notes


def _described(method: str | None, fields: Fields) -> str:
    listed = [f"{field}={value}" for field, value in fields.items()]
    return " ".join([method or "the point", *listed])


def _without_missing(
    points: Sequence[tuple[str | None, dict[str, Any]]],
    missing: Callable[[str | None, Fields], Collection[str]],
) -> tuple[list[tuple[str | None, dict[str, Any]]], list[str]]:
    """The points without fields that do not exist there, but for those that exist nowhere.

    The latter are left for the check of the configs to refuse.
    """
    lacking = [missing(*point) for point in points]
    existing = {
        field
        for (_, fields), absent in zip(points, lacking, strict=True)
        for field in fields
        if field not in absent
    }
    kept: list[tuple[str | None, dict[str, Any]]] = []
    left_out: dict[str, dict[str, None]] = {}
    for (method, fields), absent in zip(points, lacking, strict=True):
        dropped = existing.intersection(absent)
        point = method, {field: v for field, v in fields.items() if field not in dropped}
        if point not in kept:
            kept.append(point)
        for field in sorted(dropped):
            chosen = [str(v) for name, v in fields.items() if name.endswith(".name")]
            left_out.setdefault(field, {})[" ".join(filter(None, [method, *chosen]))] = None
    return kept, [
        f"{field} is left out for {', '.join(names)}, without such a field"
        for field, names in left_out.items()
    ]


def _named(points: Sequence[tuple[str | None, Fields]]) -> list[Point]:
    """Points with names of what is swept; with their index where these are not unique.

    A field with one value is named, too: the names stay when the sweep is extended.
    """
    fields = {field: field.rpartition(".")[2] for _, values in points for field in values}
    short = [*fields.values()]
    titles = {f: last if short.count(last) == 1 else f for f, last in fields.items()}
    names = [
        "_".join([*([_text(method)] if method else []), *_labels(values, titles)]) or "unchanged"
        for method, values in points
    ]
    # Some file systems do not tell cases apart.
    if len({name.casefold() for name in names}) < len(names):
        names = [f"{i}_{name}" for i, name in enumerate(names)]
    return [Point(name, *point) for name, point in zip(names, points, strict=True)]


def _labels(fields: Fields, titles: Mapping[str, str]) -> list[str]:
    return [
        _text(value) if field.endswith(".name") else f"{titles[field]}{_text(value)}"
        for field, value in fields.items()
    ]


def _text(value: Any) -> str:
    """The value, with characters that any file system takes."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return short if float(short := f"{value:g}") == value else repr(value)
    return re.sub(r"[^\w.+-]+", "-", str(value)).strip("-.") or "empty"
