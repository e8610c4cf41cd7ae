"""Measures how sharp the minima are that runs have found:

vasso-jax sharpness RUN|FOLDER... [--checkpoint last|best|STEP] [--hessian [K] [--smallest K]]
    [--trace [SAMPLES]] [--density]
    [--ball RADIUS,... [--norm l2|linf] [--adaptive] [--normalize_logits] [--per_batch]]
    [--slice 1d|2d] [--split train|test|validation] [--examples 2000] [--batch_size 200]
    [--batch_stats running|batch] [--seed 0] [--json FILE]

Of a FOLDER, all run folders below it are taken. Without a choice, the largest eigenvalues of the
Hessian and its trace are measured. The loss is the cross-entropy on some of the training images,
the same ones for all runs on a data set, without augmentation, dropout, label smoothing and weight
decay. Each measurement is written to RUN/sharpness.json at once, and what is there is not measured
again. So the same command goes on where it was stopped. A run that cannot be measured does not stop
the others. Exit status: 0; 2 if a run could not be measured, with one message for each; 128 +
signal number where a signal stopped it.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vasso_jax import runs
from vasso_jax.cli.arguments import at_least, checkpoint, positive_numbers
from vasso_jax.cli.compare import table
from vasso_jax.cli.failure import fail, print_error
from vasso_jax.cli.interruption import EndedByCtrlC
from vasso_jax.printable import printable
from vasso_jax.runs import sharpness_tables, tables
from vasso_jax.runs.sharpness import CAVEAT
from vasso_jax.train.reporting.quiet import quieten_libraries

if TYPE_CHECKING:
    from vasso_jax.measurement import LossOptions, Measure, Target

_OF_LOSS = ("split", "examples", "seed", "batch_size", "batch_stats")
_OF_BALL = ("norm", "adaptive", "normalize_logits", "per_batch")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see above.

    Args:
        arguments: of the command line, without the program; None: those of this process.
    """
    options = _parser().parse_args(arguments)
    with EndedByCtrlC():
        _run(options)


def _run(options: argparse.Namespace) -> None:
    """The command; an error that the user can fix is one message."""
    quieten_libraries()
    if options.json and (options.json.is_dir() or not options.json.absolute().parent.is_dir()):
        fail(f"--json={options.json} must be a file in a folder that exists")
    # JAX loads only once the command line has been understood.
    from vasso_jax.train.errors import UsageError

    try:
        _measure(options)
    except (UsageError, ValueError, OSError) as error:
        fail(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vasso-jax sharpness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    add = parser.add_argument
    # False: not on the command line; None: there, without a number. Defaults are those of Python.
    number: dict[str, Any] = {"nargs": "?", "default": False}
    switch: dict[str, Any] = {"action": "store_true", "default": None}
    some = at_least(1)
    add("runs", nargs="+", metavar="RUN|FOLDER", help="run folder, RUN@best, or a folder above")
    add("--checkpoint", type=checkpoint, metavar="WHICH", help="last (default), best or its step")
    add("--hessian", **number, type=some, metavar="K", help="largest eigenvalues (default: 5)")
    add("--smallest", type=some, metavar="K", help="and so many smallest ones (default: none)")
    add("--trace", **number, type=at_least(2), metavar="SAMPLES", help="default: 100")
    add("--density", action="store_true", help="of the eigenvalues; draws RUN/density.png")
    add(
        "--ball",
        type=positive_numbers,
        metavar="RADIUS,...",
        help="the growth of the loss within these radii",
    )
    add("--norm", metavar="l2|linf", help="of the ball (default: l2)")
    add("--adaptive", **switch, help="a ball relative to the size of each parameter")
    add("--normalize_logits", **switch, help="take the scale of the logits out")
    add("--per_batch", **switch, help="let each batch have its own worst perturbation")
    add("--slice", metavar="1d|2d", help="the loss around the weights; draws RUN/slice.png")
    add("--split", metavar="train|test|validation", help="default: train")
    add("--examples", type=some, metavar="N", help="images drawn (default: 2000)")
    add("--batch_size", type=some, metavar="N", help="default: 200")
    add("--batch_stats", metavar="running|batch", help="of BatchNorm (default: running)")
    add("--seed", type=at_least(0), metavar="N", help="of images and random vectors (default: 0)")
    add("--json", type=pathlib.Path, metavar="FILE", help="also write all figures there")
    return parser


def _measure(options: argparse.Namespace) -> None:
    from vasso_jax.inference import load_run
    from vasso_jax.measurement import measure
    from vasso_jax.measurement.pictures import draw
    from vasso_jax.measurement.progress import ConsoleProgress
    from vasso_jax.train.devices.compiled_programs import keep_compiled_programs
    from vasso_jax.train.errors import UsageError

    measures, loss = _measures(options), _loss(options)
    targets, notes = _targets(options, loss)
    _groups([target.folder for target in targets])  # one run twice is found before it is measured
    missing = [target.found(measures).count(None) for target in targets]
    if there := len(targets) * len(measures) - sum(missing):
        print(f"{there} measurements are there already", flush=True)
    keep_compiled_programs()
    failures: list[str] = []

    def stopped() -> str:
        kept = sum(len(measures) - target.found(measures).count(None) for target in targets)
        return (
            f"stopped; {kept} of {len(targets) * len(measures)} measurements are kept, and the "
            "same command goes on with the others"
        )

    with EndedByCtrlC(stopped), ConsoleProgress(sum(missing)) as progress:
        for target, count in zip(targets, missing, strict=True):
            if count:
                progress.start(target.folder.name)
                try:
                    run = load_run(target.folder, target.step)
                    measure(run, measures, loss, report=progress)
                except UsageError as error:
                    failures.append(str(error))
    kept = {target.folder: [made for made in target.found(measures) if made] for target in targets}
    found = {folder: made for folder, made in kept.items() if made}
    groups = _groups([*found])
    for folder, made in found.items():
        for path in (draw(one, runs.RunFolder(folder)) for one in made):
            if path:
                print(printable(f"drew {path}"))
    notes += [
        f"{folder.name}: {note}"
        for folder, made in found.items()
        for one in made
        for note in one.details.get("notes", ())
    ]
    _show(found, groups, notes)
    if options.json:
        data = sharpness_tables.as_data(found, groups)
        runs.write_text(options.json, json.dumps(data, indent=1) + "\n")
    for failure in failures[:-1]:
        print_error(failure)
    if failures:
        fail(failures[-1])


def _measures(options: argparse.Namespace) -> "list[Measure]":
    from vasso_jax.measurement import Ball, Density, Hessian, Slice, Trace

    of_ball, seed = _given(options, *_OF_BALL), _given(options, "seed")
    for name in of_ball:
        if options.ball is None:
            raise ValueError(f"--{name} has no effect without --ball")
    others = (options.density or None, options.ball, options.slice)
    if options.hessian is options.trace is False and others == (None, None, None):
        options.hessian = options.trace = None
    smallest = _given(options, "smallest")
    if smallest and options.hessian is False:
        raise ValueError("--smallest has no effect without --hessian")
    measures: list[Measure] = []
    if options.hessian is not False:
        largest = {} if options.hessian is None else {"largest": options.hessian}
        measures.append(Hessian(**largest, **smallest, **seed))
    if options.trace is not False:
        samples = {} if options.trace is None else {"samples": options.trace}
        measures.append(Trace(**samples, **seed))
    if options.density:
        measures.append(Density(**seed))
    for radius in options.ball or ():
        measures.append(Ball(radius=radius, **of_ball, **seed))
    if options.slice is not None:
        measures.append(Slice(dimensions=options.slice, **seed))
    return measures


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those options that are on the command line."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _loss(options: argparse.Namespace) -> "LossOptions":
    from vasso_jax.measurement import LossOptions

    return LossOptions(**_given(options, *_OF_LOSS))


def _targets(options: argparse.Namespace, loss: "LossOptions") -> "tuple[list[Target], list[str]]":
    """The checkpoints, and notes on what is not as it was asked for."""
    from vasso_jax.measurement import find_target

    targets: dict[pathlib.Path, Target] = {}
    notes: list[str] = []
    for given in options.runs:
        path, which = _checkpoint(given, options.checkpoint)
        for folder in runs.run_folders(path):
            if folder != path and not runs.RunFolder(folder).saved_steps():
                notes.append(f"left out, no checkpoint yet: {folder}")
                continue
            targets[folder] = find_target(folder, which, loss)
    if not targets:
        raise ValueError(f"no run has a checkpoint. {notes[0]}")
    sizes = {target.loss["examples"] for target in targets.values()} - {loss.examples}
    return [*targets.values()], notes + [_size_note(size, loss) for size in sorted(sizes)]


def _checkpoint(given: str, which: int | str | None) -> tuple[pathlib.Path, int | str]:
    """RUN, or RUN@best as for the other commands, and which of its checkpoints."""
    from vasso_jax.train.checkpoints.checkpoint import split_name

    name, named = split_name(given)
    if name != given and which is not None:
        raise ValueError(f"{given} and --checkpoint={which} both name a checkpoint: leave one out")
    return pathlib.Path(name), named if which is None else which


def _size_note(size: int, loss: "LossOptions") -> str:
    """Why there are fewer images than were asked for."""
    if loss.batch_stats == "batch" and size % loss.batch_size == 0:
        return f"{size:,} {loss.split} images are taken: whole batches of {loss.batch_size} only"
    return f"all {size:,} {loss.split} images are taken: there are no more"


def _groups(folders: Sequence[pathlib.Path]) -> list[runs.Group]:
    """The finished ones among the runs, by what they have in common but the seeds."""
    evaluated = [f for f in folders if runs.evaluations(runs.RunFolder(f).records())]
    return runs.group_runs(map(runs.read_run, evaluated))


def _show(
    found: sharpness_tables.Found, groups: Sequence[runs.Group], notes: Sequence[str]
) -> None:
    figures = sharpness_tables.figures_of(map(runs.figures_in, found.values()))
    shown = []
    if figures:
        rows = [
            sharpness_tables.checkpoint_cells(folder.name, made, figures)
            for folder, made in found.items()
        ]
        shown.append((sharpness_tables.checkpoint_header(figures), rows))
        if any("standard_errors" in one.details for made in found.values() for one in made):
            notes = [*notes, sharpness_tables.ERRORS]
    if figures and any(len(group.runs) > 1 for group in groups):
        rows = [
            sharpness_tables.group_cells(
                group.name, [runs.figures_in(found[run.folder]) for run in group.runs], figures
            )
            for group in groups
        ]
        shown.append((sharpness_tables.group_header(figures), rows))
        notes = [*notes, sharpness_tables.MEANS]
    # Output that goes to a file is not to be folded, but is as wide as a terminal.
    on_screen = sys.stdout.isatty()
    console = Console(width=None if on_screen else 200, highlight=False)
    for header, rows in shown:
        for part in tables.in_width(header, rows, console.width if on_screen else 80):
            console.print(table(*part))
    for note in [*notes, CAVEAT]:
        console.print(printable(note), markup=False, soft_wrap=True)
