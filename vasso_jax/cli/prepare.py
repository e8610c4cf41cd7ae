"""Downloads a data set and prepares it: vasso-jax prepare cifar10 [--dir=DIR]

Exit status: 0 the prepared copy exists; 2 wrong input or environment, with one message on standard
error; 130 interrupted.
"""

import argparse
import signal
import sys
from collections.abc import Sequence

from vasso_jax.cli.failure import fail
from vasso_jax.cli.interruption import Interruptible
from vasso_jax.data.prepare.preparation import PREPARABLE, prepare


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command with these arguments; None: the arguments of this process."""
    parser = argparse.ArgumentParser(
        prog="vasso-jax prepare",
        description="Downloads a data set (about 170 MB) and prepares it for training.",
    )
    parser.add_argument("name", help=f"one of {', '.join(PREPARABLE)}")
    parser.add_argument(
        "--dir",
        default="",
        metavar="DIR",
        help="folder of prepared sets; default: $TFDS_DATA_DIR, or ~/tensorflow_datasets",
    )
    parser.add_argument(
        "--url", default="", help="URL of the same archive on another server than the official one"
    )
    args = parser.parse_args(arguments)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a server that goes away is an error
    try:
        with Interruptible():
            prepare(args.name, args.dir, url=args.url)
    except (ValueError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        print("interrupted; what was downloaded is kept", file=sys.stderr)
        sys.exit(130)
