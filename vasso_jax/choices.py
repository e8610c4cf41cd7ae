"""Named choices of a config, refused with the nearest known name."""

import difflib
from collections.abc import Sequence


def check_choice(field: str, value: str, known: Sequence[str], more: str = "") -> None:
    """Raises ValueError unless `value` is one of `known`.

    Args:
        field: what is being chosen, as the person calls it.
        value: the choice.
        known: all that can be chosen; `more` describes in words what else can.
    """
    if value not in known:
        near = difflib.get_close_matches(str(value), known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"there is no {field} {value!r}.{hint} Known: {', '.join(known)}{more}.")
