"""Looks for the learning rate of a config in a short training:

vasso-jax find-lr --config=FILE[:METHOD] [--low 1e-5] [--high 10] [--steps 100] [--png FILE]
    [--config.FIELD=VALUE ...]

The learning rate grows exponentially from --low to --high, while network, method, base, batches and
augmentation are those of the config. The loss of each step is averaged over a twentieth of the
steps. The test ends early where that average exceeds four times its minimum, or a loss is not
finite. The sections schedule and rho_schedule of the config, if set, are replaced: rho stays
method.rho. base.lr is not used. A window or method.active that leaves some of the steps
unperturbed is refused. A method of one evaluation per step reports the loss at the perturbed
parameters, which says less. No run folder is written.

Suggested is a tenth of the rate at the minimum of the average, as in the fastai library; the rate
of the steepest descent is the other usual choice. After Smith, arXiv 1506.01186. Both are rules of
thumb on the start of training, and a sweep of base.lr about them is better. The last line of
standard output is the result as one JSON object, with null for what was not found. Exit status: 0;
2 wrong input, with one message.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from vasso_jax.cli.compare import table
from vasso_jax.cli.config_file import load_config, run_name
from vasso_jax.cli.failure import fail
from vasso_jax.cli.train import fail_in_cluster
from vasso_jax.train.config.fields import Config
from vasso_jax.train.reporting.quiet import quieten_libraries

if TYPE_CHECKING:
    from vasso_jax.train.lr_finder import RangeTest

_ROWS = 10
_LEAST_FALL = 0.1  # of the loss at the start
_ADVICE = (
    "These rates are rules of thumb on the shape of the loss at the start of training: weight "
    "decay, momentum, batch size and rho move them."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see above.

    Args:
        arguments: of the command line, without the program; None: those of this process.
    """
    options, fields = _parser().parse_known_args(arguments)
    quieten_libraries()
    if options.png and (options.png.is_dir() or not options.png.absolute().parent.is_dir()):
        fail(f"--png={options.png} must be a file in a folder that exists")
    _find(load_config(options.config, fields), options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vasso-jax find-lr",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE[:METHOD]", required=True, help="as for train")
    parser.add_argument("--low", type=float, default=1e-5, metavar="LR", help="default: 1e-5")
    parser.add_argument("--high", type=float, default=10.0, metavar="LR", help="default: 10")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="default: 100")
    parser.add_argument("--png", type=pathlib.Path, metavar="FILE", help="draw the losses there")
    return parser


def _find(config: Config, options: argparse.Namespace) -> None:
    # JAX loads only once the command line has been understood.
    from vasso_jax.train import UsageError, usage_errors
    from vasso_jax.train.devices import processes
    from vasso_jax.train.devices.compiled_programs import keep_compiled_programs
    from vasso_jax.train.lr_finder import plan_test, run_test
    from vasso_jax.train.range_plot import plot_range_test

    try:
        with usage_errors():
            plan = plan_test(config, low=options.low, high=options.high, steps=options.steps)
        keep_compiled_programs()
        found = run_test(plan)

        def report() -> None:
            show(found)
            result = json.dumps(_result(found))
            try:
                if options.png:
                    plot_range_test(found, options.png, run_name(options.config))
            finally:  # a full disk must not take it along
                print(result, flush=True)

        processes.on_first(report)
    except UsageError as error:
        fail_in_cluster(error)


def show(found: "RangeTest") -> None:
    """Prints what was found."""
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    shown = np.linspace(0, len(found.rates) - 1, min(_ROWS, len(found.rates))).round().astype(int)
    columns = [column[shown] for column in (found.rates, found.losses, found.smoothed)]
    rows = [[f"{value:.3g}" for value in row] for row in zip(*columns, strict=True)]
    console.print(table(["learning rate", "loss", "smoothed"], rows))
    for line in _lines(found):
        console.print(line, markup=False, soft_wrap=True)


def _lines(found: "RangeTest") -> Iterator[str]:
    """What the rates are, and what follows."""
    if found.diverged:
        yield (
            f"stopped at {found.diverged:.3g}: the smoothed loss exceeds four times its minimum, "
            "or the loss is not finite"
        )
    if found.steepest is None:
        yield "warning: the loss falls nowhere: give a smaller --low, or more --steps"
        return
    yield f"steepest descent of the smoothed loss: {found.steepest:.3g}"
    if found.suggested is None:
        yield "warning: no minimum, as the loss still falls at the end: give a larger --high"
        return
    yield f"minimum of the smoothed loss: {found.minimum:.3g}"
    yield f"suggested: {found.suggested:.3g}, a tenth of the rate at the minimum. {_ADVICE}"
    fall = 1 - found.smoothed.min() / found.smoothed[0]
    if fall < _LEAST_FALL:
        yield f"warning: the loss falls by {fall:.1%} only, which may be noise: give more --steps"


def _result(found: "RangeTest") -> dict[str, float | None]:
    def rounded(rate: float | None) -> float | None:
        return rate and float(f"{rate:.3g}")

    return {
        "suggested_lr": rounded(found.suggested),
        "steepest_lr": rounded(found.steepest),
        "minimum_lr": rounded(found.minimum),
        "diverged_lr": rounded(found.diverged),
        "losses": len(found.losses),
    }
