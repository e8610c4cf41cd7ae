"""Downloads a data set and prepares it: vasso-jax prepare cifar10 [--dir=DIR]

Exit status: 0 the copy is there; 2 wrong input or environment, with one message on standard
error; 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence

from vasso_jax.data.prepare.preparation import PREPARABLE, prepare


def main(arguments: Sequence[str] | None = None) -> None:
    """The command with its arguments; None: those of this process."""
    parser = argparse.ArgumentParser(
        prog="vasso-jax prepare",
        description="Downloads a data set (about 170 MB) and prepares it for training.",
    )
    parser.add_argument("name", help=f"one of {', '.join(PREPARABLE)}")
    parser.add_argument(
        "--dir",
        default="",
        metavar="DIR",
        help="where prepared sets lie; default: $TFDS_DATA_DIR, or ~/tensorflow_datasets",
    )
    parser.add_argument(
        "--url", default="", help="of another server that has the same archive as the official one"
    )
    args = parser.parse_args(arguments)
    try:
        prepare(args.name, args.dir, url=args.url)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; what was downloaded is kept", file=sys.stderr)
        sys.exit(130)
