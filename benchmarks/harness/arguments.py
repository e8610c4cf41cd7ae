"""The common arguments of the benchmarks, and their errors: one message, exit status 2."""

import argparse
import contextlib
import pathlib
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from benchmarks.harness.results import check_writable

PRECISIONS = ("float32", "tf32", "bfloat16")


def fail(message: object) -> NoReturn:
    """Ends the process with one message and exit status 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


@contextlib.contextmanager
def one_message() -> Iterator[None]:
    """Turns errors that the user can fix into one message and exit status 2; also a decorator."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        fail(error)


def positive(text: str) -> int:
    """The type of an argument that is an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


# Type, and what --help says.
_COMMON: dict[str, dict[str, Any]] = {
    "model": {"type": str, "help": "network, a name of vasso_jax.models"},
    "image_size": {"type": positive, "help": "side of the images, in pixels"},
    "batch_size": {"type": positive, "help": "images per step, over all devices"},
    "classes": {"type": positive, "help": "size of the last layer"},
    "precision": {"choices": PRECISIONS, "help": "of the arithmetic; parameters are float32"},
    "rounds": {"type": positive, "help": "how often each case is measured, in turn"},
    "steps": {"type": positive, "help": "steps per round"},
}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one message."""

    def __init__(
        self,
        doc: str | None,
        *,
        out: str = "JSON file to write",
        out_is_folder: bool = False,
        **defaults: Any,
    ):
        """The parser of a benchmark; all have `--out`.

        Args:
            doc: the docstring of its module, for --help.
            out: what --help says about --out.
            out_is_folder: whether it is a folder instead of a file.
            defaults: defaults of the common arguments that this benchmark has.
        """
        super().__init__(
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        for name, default in defaults.items():
            help_text = f"{_COMMON[name]['help']} ({default})"
            self.add_argument(f"--{name}", default=default, **{**_COMMON[name], "help": help_text})
        self._out_is_folder = out_is_folder
        self.add_argument("--out", type=pathlib.Path, metavar="PATH", help=out)

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """As usual, and checks that --out can be written before anything is measured."""
        options = super().parse_args(*args, **kwargs)
        if options.out:
            check_writable(options.out, folder=self._out_is_folder)
        return options

    def error(self, message: str) -> NoReturn:
        """See `fail`."""
        fail(message)


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments to store in a result file: all but `out`."""
    return {name: value for name, value in vars(options).items() if name != "out"}
