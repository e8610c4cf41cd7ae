"""The argument by which commands pick a checkpoint of a run."""

import argparse


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds `--checkpoint last|best|STEP`, as `vasso_jax.load_run` takes it."""
    parser.add_argument(
        "--checkpoint",
        type=as_checkpoint,
        default="last",
        metavar="last|best|STEP",
        help="of the run (default: last; best is that of the best test accuracy)",
    )


def as_checkpoint(text: str) -> int | str:
    """A step as an integer."""
    return int(text) if text.isdecimal() else text
