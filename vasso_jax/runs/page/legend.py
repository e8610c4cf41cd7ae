"""The legend of the page, whose boxes turn curves on and off."""

from collections.abc import Sequence
from html import escape

from vasso_jax.runs.comparison import Group
from vasso_jax.runs.series import style

# The box for all thin lines.
SINGLE_RUNS = "runs"


def box_id(group: int, run: int | None = None) -> str:
    """The box of a group, or of one of its runs.

    Each trace lists such boxes in its `meta`, and is visible while all of them are checked.
    """
    return f"group{group}" if run is None else f"group{group}run{run}"


def legend(groups: Sequence[Group]) -> str:
    """A list of the groups with their lines and, where there are several runs, these by seed."""
    return "".join(_entry(i, group) for i, group in enumerate(groups))


def _entry(i: int, group: Group) -> str:
    colour, dashes = style(i)
    line = (
        '<svg width="32" height="8" aria-hidden="true"><line x1="0" y1="4" x2="32" y2="4" '
        f'stroke="{colour}" stroke-width="4" '
        f'stroke-dasharray="{" ".join(map(str, dashes)) or "none"}"/></svg>'
    )
    seeds = [
        _box(box_id(i, number), f"seed {' '.join(map(str, run.seeds))}")
        for number, run in enumerate(group.runs)
    ]
    runs = f"<span>{' '.join(seeds)}</span>" if len(seeds) > 1 else ""
    return f"<li>{_box(box_id(i), f'{line} {escape(group.name)}')} {runs}</li>\n"


def _box(name: str, content: str) -> str:
    return f'<label><input type="checkbox" id="{name}" checked> {content}</label>'
