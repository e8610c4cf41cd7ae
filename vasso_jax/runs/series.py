"""What learning curves show: values over epochs with their units, their means, their colours."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vasso_jax.runs.comparison import Group, range_of
from vasso_jax.runs.statistics import Estimate, estimate
from vasso_jax.runs.tables import scale_of

# What a field is, and its axis with the unit of `over_epochs`.
_TITLES = {
    "top1": ("top-1 accuracy", "top-1 accuracy, %"),
    "top5": ("top-5 accuracy", "top-5 accuracy, %"),
    "loss": ("loss", "cross-entropy, nats"),
    "lr": ("learning rate", "learning rate"),
    "lambda_1": ("largest eigenvalue of the Hessian", "largest eigenvalue"),
    "trace": ("trace of the Hessian", "trace"),
    "cosine": ("cosine of gradient and direction", "cosine"),
}
# Those of Okabe and Ito, which colour-blind people tell apart, without the two that cannot be seen
# on white or on black; and lengths of dashes and gaps, which begin where the colours are used up.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#808080")
_DASHES = ((), (8, 3), (2, 2), (8, 3, 2, 3))


def title(field: str) -> str:
    """What a field of the records is."""
    return _TITLES.get(field, (field, field))[0]


def axis_label(field: str) -> str:
    """The field on an axis, with the unit of `over_epochs`."""
    return _TITLES.get(field, (field, field))[1]


def over_epochs(records: Iterable[Mapping[str, Any]], field: str) -> dict[int, float]:
    """A field of the records by epoch, of those that have it; shares between 0 and 1 in percent."""
    scale, _ = scale_of(field)
    return {r["epoch"]: scale * r[field] for r in records if isinstance(r.get(field), int | float)}


def means(curves: Sequence[Mapping[int, float]]) -> dict[int, Estimate]:
    """The mean of curves, with their deviation, in each epoch that all of them have."""
    epochs = sorted(set.intersection(*(set(curve) for curve in curves)))
    return {epoch: estimate([curve[epoch] for curve in curves]) for epoch in epochs}


def band(found: Mapping[int, Estimate]) -> tuple[list[float], list[float]]:
    """The lower and the upper edge of one standard deviation about the means."""
    low, high = (
        [value.mean + sign * (value.std or 0) for value in found.values()] for sign in (-1, 1)
    )
    return low, high


def band_note(groups: Sequence[Group]) -> str:
    """What the bands are; empty if no group has several runs."""
    several = [len(group.runs) for group in groups if len(group.runs) > 1]
    return f"band: +- one standard deviation over {range_of(several)} runs" if several else ""


def splits(groups: Sequence[Group]) -> str:
    """What the runs were evaluated on: `test`, `validation`, or both."""
    found = {run.evaluations[0]["split"] for group in groups for run in group.runs}
    return " or ".join(sorted(found))


def style(i: int) -> tuple[str, Sequence[int]]:
    """The colour of the i-th group, and the lengths of its dashes and gaps; empty: none."""
    return _COLOURS[i % len(_COLOURS)], _DASHES[i // len(_COLOURS) % len(_DASHES)]
