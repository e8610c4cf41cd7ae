"""What was measured of the checkpoints of a run: sharpness.json.

The file is a JSON object with `format`, 1, and `measurements`, a list in the order in which they
were made. Each is an object with

    step        of the checkpoint, an int
    kind        what was measured, such as `hessian`
    settings    how, an object; `loss` in it has the choices of the loss: the images, the statistics
                of BatchNorm and so on
    figures     numbers by name, such as `lambda_1`; see `is_figure`
    details     anything else, such as all eigenvalues, or the loss on a grid; among them `value`,
                the loss itself, and `examples`, how many images there were in fact, without those
                that were damaged
    seconds     that it took

An entry is never changed. Step, kind and settings tell whether something has been measured before;
another setting is another entry.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from vasso_jax.runs.files import locked, read_object, write_text
from vasso_jax.runs.settings import as_json

FORMAT = 1
CAVEAT = (
    "Sharpness does not predict generalisation by itself (arXiv 2302.07011): it also depends on "
    "scale, network and data."
)
_DELETE = "delete it to measure again"
_TYPES = {
    "step": int,
    "kind": str,
    "settings": dict,
    "figures": dict,
    "details": dict,
    "seconds": int | float,
}
_FIGURES = ("lambda_", "trace", "adaptive_", "average_", "first_order_", "worst_")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """One entry of the file, see above."""

    step: int
    kind: str
    settings: Mapping[str, Any]
    figures: Mapping[str, float]
    details: Mapping[str, Any]
    seconds: float

    def is_of(self, step: int, kind: str, settings: Mapping[str, Any]) -> bool:
        """Whether it is what would be measured."""
        return (self.step, self.kind, self.settings) == (step, kind, as_json(settings))

    @property
    def made_by(self) -> dict[str, Any]:
        """The settings, with the images that there were in fact."""
        if "examples" not in self.details:
            return {**self.settings}
        loss = {**self.settings.get("loss", {}), "examples": self.details["examples"]}
        return {**self.settings, "loss": loss}


def is_figure(metric: str) -> bool:
    """Whether a metric is a figure of a measurement, and not one of the test."""
    return metric.startswith(_FIGURES)


def read_measurements(path: pathlib.Path, remedy: str = _DELETE) -> list[Measurement]:
    """What is in a sharpness.json, in order; nothing if there is no such file.

    Args:
        path: of the file.
        remedy: what the user can do if it is damaged; ends the message.

    Raises:
        ValueError: it is damaged, or of a newer format; the message names the file.
        OSError: it cannot be read.
    """
    if not path.exists():
        return []
    content = read_object(path, remedy)
    found, entries = content.get("format"), content.get("measurements")
    if type(found) is int and found > FORMAT:
        raise ValueError(
            f"{path} needs a newer vasso_jax (format {found}, this version reads {FORMAT}): "
            f"install that, or {remedy}"
        )
    if found != FORMAT or not isinstance(entries, list):
        raise ValueError(f"{path} is damaged (no format {FORMAT} with measurements): {remedy}")
    for number, entry in enumerate(entries, start=1):
        if not _is_valid(entry):
            raise ValueError(f"{path} is damaged (measurement {number}): {remedy}")
    return [Measurement(**entry) for entry in entries]


def _is_valid(entry: Any) -> bool:
    if not isinstance(entry, dict) or entry.keys() != _TYPES.keys():
        return False
    if not all(isinstance(entry[name], kind) for name, kind in _TYPES.items()):
        return False
    numbers = (*entry["figures"].values(), entry["seconds"])
    return all(type(x) in (int, float) and math.isfinite(x) for x in numbers)


def add_measurement(path: pathlib.Path, measurement: Measurement) -> Measurement:
    """Adds an entry to a sharpness.json, which need not exist, atomically.

    Entries that several processes add at once are all kept, but of one step, kind and settings only
    the first.

    Returns:
        The entry that is in the file: this one, or that first one.

    Raises:
        ValueError: the file is damaged, a number is not finite, which JSON cannot express, or a
            figure has a name by which `is_figure` would not know it.
        OSError: it cannot be read or written.
    """
    unknown = [name for name in measurement.figures if not is_figure(name)]
    if unknown:
        raise ValueError(
            f"the names of figures begin with {', '.join(_FIGURES)}; not so: {', '.join(unknown)}"
        )
    with locked(path):
        there = read_measurements(path)
        for one in there:
            if one.is_of(measurement.step, measurement.kind, measurement.settings):
                return one
        entries = [*there, measurement]
        content = {"format": FORMAT, "measurements": list(map(dataclasses.asdict, entries))}
        write_text(path, json.dumps(content, allow_nan=False) + "\n")
    return measurement


def figures_at(measurements: Iterable[Measurement], step: int) -> dict[str, Measurement]:
    """For each figure of a checkpoint, by its name, the newest measurement that has it."""
    return {name: made for made in measurements if made.step == step for name in made.figures}


def figures_in(measurements: Iterable[Measurement]) -> dict[str, float]:
    """All figures of some measurements by name; of equal names the last."""
    return {name: value for made in measurements for name, value in made.figures.items()}
