"""Trains many runs of one config, and compares them:

vasso-jax sweep --config=FILE[:METHOD] [--seeds N] [--methods none,sam,vasso]
    [--set FIELD=VALUE,VALUE ...] [--jobs N] [--workdir DIR] [--index I | --list]
    [--config.FIELD=VALUE ...]

The points are all combinations of the points that the config adds by its function `sweep(add)`,
the methods, the values of each --set and the seeds. Each is a run folder below the workdir, named
by its values. All are checked before the first one starts. Those that have finished are skipped,
and those that were stopped go on, so the same command resumes a sweep. At the end, the runs are
compared as by vasso-jax compare, and, where they have a validation split, the best settings of each
method are chosen on it. Exit status: 0 all have finished; 2 wrong input, with one message, or some
runs have failed, which are named at the end; 128 + signal number where a signal stopped it.
"""

import argparse
import ast
import pathlib
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

from rich.console import Console

from vasso_jax import runs
from vasso_jax.cli import compare
from vasso_jax.cli.arguments import at_least
from vasso_jax.cli.config_file import check_field, config_path, load_config, run_name
from vasso_jax.cli.failure import fail
from vasso_jax.cli.train import run_here
from vasso_jax.printable import printable
from vasso_jax.runs import tables
from vasso_jax.sweep import ConsoleProgress, PlannedRun, Point, make_points, own_points, run_all
from vasso_jax.train.config.fields import Config, with_fields
from vasso_jax.train.reporting.quiet import quieten_libraries

_ON_ONE_GPU = """
Several jobs on one GPU take turns on it. Each reserves its part of three quarters of the memory,
unless XLA_PYTHON_CLIENT_MEM_FRACTION is set: what one run needs must fit into that part. A job uses
all GPUs that it sees. For one job per GPU, start each with a CUDA_VISIBLE_DEVICES and an --index.
"""
# What the base optimizer alone is called, too.
_ALIASES = {"sgd": "none"}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see above.

    Args:
        arguments: of the command line, without the program; None: those of this process.
    """
    options, fields = _parser().parse_known_args(arguments)
    quieten_libraries()
    try:
        sweep = _Sweep(options, fields)
        for note in sweep.notes:
            print(printable(note))
        if options.list:
            for i, point in enumerate(sweep.points):
                print(printable(f"{i:>4}  {sweep.described(point)}"))
        elif options.index is not None:
            run = sweep.planned(sweep.point(options.index))
            run_here(run.config, str(run.folder))
        else:
            _train(sweep, options.jobs or 1)
    except (ValueError, OSError) as error:
        fail(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vasso-jax sweep",
        description=__doc__,
        epilog=_ON_ONE_GPU,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE[:METHOD]", required=True, help="as for train")
    parser.add_argument("--seeds", type=at_least(1), metavar="N", help="seeds 0 to N - 1")
    parser.add_argument("--methods", metavar="NAME,...", help="as METHOD; sgd is none")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE,...", help="repeatable"
    )
    parser.add_argument("--workdir", type=pathlib.Path, metavar="DIR", help="above the run folders")
    parser.add_argument(
        "--jobs",
        type=at_least(1),
        metavar="N",
        help="runs at once, each on its share of the cores; default: 1, on all cores and devices",
    )
    one = parser.add_mutually_exclusive_group()
    one.add_argument(
        "--index", type=int, metavar="I", help="run one point, as --index=$SLURM_ARRAY_TASK_ID"
    )
    one.add_argument("--list", action="store_true", help="print all points with their index")
    return parser


class _Sweep:
    """The points that the command line stands for, and their configs.

    Attributes:
        workdir: above the run folders.
        points: in order of their indices.
        notes: on fields that are left out somewhere.
        swept: dotted names of the fields, but for seeds.
    """

    def __init__(self, options: argparse.Namespace, fields: Sequence[str]):
        experiment, methods, grid = options.config, _methods(options.methods), _grid(options.set)
        path = config_path(experiment)
        if methods and ":" in experiment:
            raise ValueError(f"--config={experiment} and --methods say the same: leave one out")
        if options.jobs and (options.list or options.index is not None):
            raise ValueError("--jobs has no effect here: leave it out")
        self._configs: dict[str | None, Config] = {
            method: load_config(f"{experiment}:{method}" if method else experiment, fields)
            for method in methods or [None]
        }
        own = own_points(path)
        swept = dict.fromkeys([*grid, *(field for point in own for field in point)])
        by_option = {"seed": options.seeds, "method.name": methods}
        _check_swept(swept, [name for name, given in by_option.items() if given], fields)
        self.points, self.notes = make_points(own, methods, grid, options.seeds, self._missing)
        if not (swept or methods or options.seeds):
            raise ValueError(
                "nothing is swept: give --seeds, --methods or --set, or write a function "
                "sweep(add) into the config"
            )
        self.workdir = options.workdir or pathlib.Path("runs", f"{run_name(experiment)}_sweep")
        if runs.RunFolder(self.workdir).config_path.exists():
            raise ValueError(f"{self.workdir} is a run folder: give another --workdir")
        self.swept = [name for name in swept if name not in runs.SEEDS]

    def _missing(self, method: str | None, fields: Mapping[str, Any]) -> list[str]:
        # JAX loads only once the rest of the command line has been understood.
        from vasso_jax.train.config.parts import has_field

        config = with_fields(self._configs[method], fields)
        return [field for field in fields if not has_field(config, field)]

    def point(self, index: int) -> Point:
        """The point with this index."""
        if not 0 <= index < len(self.points):
            raise ValueError(f"--index={index}: the points are 0 to {len(self.points) - 1}")
        return self.points[index]

    def described(self, point: Point) -> str:
        """Name and fields of a point."""
        return "  ".join([point.name, *(f"{k}={v}" for k, v in point.fields.items())])

    def planned(self, point: Point) -> PlannedRun:
        """The run of a point."""
        config = with_fields(self._configs[point.method], point.fields)
        return PlannedRun(self.workdir / point.name, config)


def _check_swept(swept: Collection[str], by_option: Sequence[str], given: Sequence[str]) -> None:
    """Whether these fields exist, and each value is said once.

    Args:
        swept: by sweep(add) and --set.
        by_option: by --seeds and --methods.
        given: arguments such as --config.epochs=5.
    """
    fixed = {argument.lstrip("-").partition("=")[0].removeprefix("config.") for argument in given}
    for name in swept:
        check_field(name)
        if name in by_option:
            option = {"seed": "--seeds", "method.name": "--methods"}[name]
            raise ValueError(f"{name} is swept, and {option} is given: leave one out")
    for name in [*swept, *by_option]:
        if name in fixed:
            raise ValueError(f"{name} is swept, and set by --config.{name}: leave one out")


def _methods(text: str | None) -> list[str]:
    if text is None:
        return []
    names = [_ALIASES.get(name, name) for name in text.split(",")]
    if "" in names:
        raise ValueError(f"--methods={text}: give names, such as --methods=none,sam,vasso")
    return names


def _grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """The values of each --set."""
    grid: dict[str, list[Any]] = {}
    for text in texts:
        field, _, values = text.partition("=")
        if not field or not values:
            raise ValueError(f"--set={text}: give values, such as --set method.rho=0.05,0.1")
        if field in grid:
            raise ValueError(f"--set {field} is given twice: give all values in one, with commas")
        try:
            grid[field] = list(ast.literal_eval(f"[{values}]"))
        except (ValueError, SyntaxError):  # names
            grid[field] = values.split(",")
        except (MemoryError, RecursionError) as error:
            raise ValueError(f"--set {field}: its values are nested too deeply") from error
    return grid


def _train(sweep: _Sweep, jobs: int) -> None:
    """All points, and the tables at the end."""
    # Set anew, as a shell script ignores it for what it starts in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    planned = [sweep.planned(point) for point in sweep.points]
    print(printable(f"checking {len(planned)} runs in {sweep.workdir} ..."), flush=True)
    try:
        with ConsoleProgress() as progress:
            failures = run_all(planned, jobs, progress)
    except (KeyboardInterrupt, SystemExit) as interruption:
        by_hand = isinstance(interruption, KeyboardInterrupt)
        print("stopped; the same command goes on with what the runs have saved", file=sys.stderr)
        sys.exit(128 + (signal.SIGINT if by_hand else signal.SIGTERM))
    if len(failures) < len(planned):
        ended = [run.folder.absolute() for run in planned if run.folder.name not in failures]
        compare.show([*map(str, ended)])
        print_choices([run.folder for run in planned], sweep.swept, complete=not failures)
    if failures:
        lines = "".join(f"\n  {name}: {message}" for name, message in failures.items())
        fail(f"{len(failures)} of {len(planned)} runs failed:{lines}")


def _exit(number: int, frame: object) -> NoReturn:
    del frame
    sys.exit(128 + number)


def print_choices(folders: Sequence[pathlib.Path], swept: Sequence[str], complete: bool) -> None:
    """The settings of each method that are the best on the validation split, where some differ."""
    if not swept:
        return
    if not complete:
        print("no settings are chosen before all runs have finished")
        return
    loaded = [runs.read_run(folder) for folder in folders]
    groups = runs.group_runs(loaded)
    if all(len(alternatives) == 1 for alternatives in runs.candidates(groups, swept)):
        return
    if not all(run.validations for run in loaded):
        print(
            "no settings are chosen, as the test accuracy of those that are the best on the test "
            "images is too good: hold out some training images, as by --config.validation.share=0.1"
        )
        return
    choices = runs.choose(groups, swept)
    print("chosen on the validation split:")
    rows = [tables.choice_cells(choice) for choice in choices]
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(compare.table(tables.choice_header("top1"), rows))
    if spread := tables.spread_note([choice.group for choice in choices]):
        console.print(spread, markup=False, soft_wrap=True)
