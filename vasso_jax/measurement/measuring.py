"""Measures the checkpoints of runs, and keeps what it finds in their folders at once."""

import dataclasses
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax

from vasso_jax.inference import TrainedRun
from vasso_jax.measurement.loss import LossOptions, objective
from vasso_jax.measurement.measures import Measure
from vasso_jax.measurement.surroundings import Slice
from vasso_jax.runs import Measurement, RunFolder, add_measurement, read_measurements
from vasso_jax.train.checkpoints.checkpoint import find_checkpoint
from vasso_jax.train.config.objects import Dataset
from vasso_jax.train.errors import UsageError, usage_errors


class Report(Protocol):
    """Is told how far a measurement is."""

    def passes(self, measure: Measure, done: int, expected: int) -> None:
        """So many passes over the data are done, of those expected in all."""
        ...

    def ended(self, made: Measurement) -> None:
        """It is in the file."""
        ...


@dataclasses.dataclass(frozen=True)
class Target:
    """A checkpoint that is to be measured.

    Attributes:
        folder: of the run.
        step: of the checkpoint.
        loss: the choices of the loss, see `LossOptions.of`.
    """

    folder: pathlib.Path
    step: int
    loss: Mapping[str, Any]

    def settings(self, measure: Measure) -> dict[str, Any]:
        """All that tells a measurement from others of its kind."""
        return {**measure.settings, "loss": self.loss}

    def found(self, measures: Sequence[Measure]) -> list[Measurement | None]:
        """What has been measured before, of each measure.

        Raises:
            ValueError: sharpness.json is damaged.
            OSError: it cannot be read.
        """
        there = read_measurements(RunFolder(self.folder).sharpness_path)

        def find(measure: Measure) -> Measurement | None:
            wanted = (self.step, measure.kind, self.settings(measure))
            return next((made for made in there if made.is_of(*wanted)), None)

        return list(map(find, measures))


def find_target(folder: pathlib.Path, which: int | str, options: LossOptions) -> Target:
    """The checkpoint `which` of a run; see `load_run`. Nothing large is read.

    Raises:
        UsageError: this is no run folder, or there is no such checkpoint or split.
    """
    with usage_errors():
        reader = RunFolder(folder)
        reader.settings()
        step = int(find_checkpoint(folder, which).name)
        return Target(folder, step, options.of(reader))


def measure(
    run: TrainedRun,
    measures: Sequence[Measure],
    options: LossOptions | None = None,
    *,
    dataset: Dataset | None = None,
    report: Report | None = None,
) -> list[Measurement]:
    """Measures what has not been measured before, and adds each to sharpness.json at once.

    Args:
        run: of `load_run`.
        measures: such as `Hessian()` and `Trace(samples=50)`.
        options: of the loss; None: the default one.
        dataset: of a run that was given one as an object.
        report: see `Report`.

    Returns:
        One entry of sharpness.json for each measure, in their order, old or new.

    Raises:
        UsageError: the data set or sharpness.json cannot be read, or something is not finite.
    """
    options = options or LossOptions()
    with usage_errors():
        target = Target(run.folder, run.step, options.of(RunFolder(run.folder)))
        found = target.found(measures)
    if all(found):
        return [made for made in found if made]
    _check_statistics(run, measures, options)
    with usage_errors():
        RunFolder(run.folder).check_writable("its measurements could not be kept")
    loss, params = objective(run, options, dataset)
    results = []
    for each, made in zip(measures, found, strict=True):
        if made is None:
            made = _measure(target, each, loss, params, report)
        results.append(made)
    return results


def _check_statistics(run: TrainedRun, measures: Sequence[Measure], options: LossOptions) -> None:
    """Refuses a slice with running statistics: these belong to the weights in the middle only."""
    running = options.batch_stats == "running" and jax.tree.leaves(run.variables.get("batch_stats"))
    if running and any(isinstance(each, Slice) for each in measures):
        raise UsageError(
            f"{run.folder}: a slice needs batch_stats=batch, as the running statistics of the "
            "network are wrong anywhere but at its weights"
        )


def _measure(
    target: Target, measure: Measure, loss: Any, params: Any, report: Report | None
) -> Measurement:
    def progress(done: int, expected: int) -> None:
        if report:
            report.passes(measure, done, expected)

    start = time.perf_counter()
    try:
        figures, details = measure(loss, params, progress)
        value = float(loss.value(params))
    except (ValueError, jax.errors.JaxRuntimeError) as error:  # such as a lack of memory
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{target.folder}: {measure.kind}: {reason}") from error
    made = Measurement(
        step=target.step,
        kind=measure.kind,
        settings=target.settings(measure),
        figures=figures,
        # Last, as some details have a value of their own, which is among the figures.
        details={**details, "value": value, "examples": int(loss.weights.sum())},
        seconds=round(time.perf_counter() - start, 3),
    )
    with usage_errors():
        made = add_measurement(RunFolder(target.folder).sharpness_path, made)
    if report:
        report.ended(made)
    return made
