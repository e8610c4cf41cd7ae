"""Types of arguments of the command line; argparse puts the name of the option before a message."""

import argparse
import math
from collections.abc import Callable


def at_least(least: int) -> Callable[[str], int]:
    """An integer that is not too small."""

    def convert(text: str) -> int:
        value = _integer(text)
        if value is None or value < least:
            raise argparse.ArgumentTypeError(
                f"must be an integer of at least {least}, got {text!r}"
            )
        return value

    return convert


def positive_numbers(text: str) -> list[float]:
    """Numbers > 0 with commas between them, each of them once."""
    try:
        values = list(dict.fromkeys(map(float, text.split(","))))
    except ValueError:
        values = [math.nan]
    if not all(0 < value < math.inf for value in values):
        raise argparse.ArgumentTypeError(f"must be numbers > 0, such as 0.05,0.1, got {text!r}")
    return values


def checkpoint(text: str) -> int | str:
    """`last`, `best` or a step."""
    step = _integer(text)
    if text in ("last", "best"):
        return text
    if step is None or step < 0:
        raise argparse.ArgumentTypeError(f"must be last, best or a step, got {text!r}")
    return step


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
