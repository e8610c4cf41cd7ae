"""The user's own code: whatever it raises becomes one message that says what and where."""

import contextlib
import pathlib
import sysconfig
import traceback
from collections.abc import Iterator

# Whose lines do not help the user.
_NOT_OWN = (str(pathlib.Path(__file__).parent), sysconfig.get_path("stdlib"), "<frozen")


@contextlib.contextmanager
def own_code(
    failure: str, call: str, passed_on: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turns any exception of the enclosed call into a ValueError.

    Args:
        failure: what it means for the user, such as `the network cannot be trained`.
        call: as it was made, such as `tx.init(params)`.
        passed_on: types whose message is fit for the user as it is.
    """
    try:
        yield
    except passed_on:
        raise
    except Exception as error:  # it may raise anything
        reason = what_and_where(error)
        raise ValueError(f"{failure}: {reason}; it was called as {call}") from error


def what_and_where(error: BaseException) -> str:
    """The type of an exception, the first line of its text, and the line of the user's code."""
    text = str(error).strip().splitlines()
    return ": ".join([type(error).__name__, *text[:1]]) + _place(error)


def _place(error: BaseException) -> str:
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(_NOT_OWN) and "site-packages" not in frame.filename:
            return f" ({frame.filename}, line {frame.lineno})"
    return ""
