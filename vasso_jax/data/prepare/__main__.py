"""Downloads a data set and prepares it: python -m vasso_jax.data.prepare cifar10 [--data_dir=DIR]

Exit status: 0 the copy is there; 2 wrong input or surroundings, with one message on standard
error; 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence

from vasso_jax.data.prepare.preparation import PREPARABLE, prepare


def main(argv: Sequence[str] | None = None) -> None:
    """The command; `argv` are its arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m vasso_jax.data.prepare",
        description="Downloads a data set (about 170 MB) and prepares it for training.",
    )
    parser.add_argument("name", help=f"one of {', '.join(PREPARABLE)}")
    parser.add_argument(
        "--data_dir",
        default="",
        metavar="DIR",
        help="where prepared sets lie; default: $TFDS_DATA_DIR, or ~/tensorflow_datasets",
    )
    parser.add_argument(
        "--url", default="", help="of another server that has the same archive as the official one"
    )
    args = parser.parse_args(argv)
    try:
        prepare(args.name, args.data_dir, url=args.url)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; what was downloaded is kept", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
