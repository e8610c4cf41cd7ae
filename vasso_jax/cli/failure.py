"""How a command ends that cannot do what it was asked for."""

import sys
from typing import NoReturn

from vasso_jax.printable import printable


def fail(message: object) -> NoReturn:
    """Ends the process with one message and status 2."""
    print_error(message)
    sys.exit(2)


def print_error(message: object) -> None:
    """Writes one message to standard error."""
    print(printable(f"error: {message}"), file=sys.stderr, flush=True)
