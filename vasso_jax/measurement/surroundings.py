"""Measures of the loss around the parameters."""

import dataclasses
from typing import Any, ClassVar, get_args

import numpy as np

from vasso_jax.measurement.measures import Found, Settings, as_json
from vasso_jax.names import check_choice
from vasso_jax.sharpness import slices
from vasso_jax.sharpness.average import average_case
from vasso_jax.sharpness.ball import first_order, worst_case
from vasso_jax.sharpness.checks import check_count, check_flags, check_positive
from vasso_jax.sharpness.norms import Norm
from vasso_jax.sharpness.objective import Objective
from vasso_jax.sharpness.progress import Progress

DIMENSIONS = ("1d", "2d")
# Of float32, which the radius is when it is used.
_LEAST, _GREATEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ball(Settings):
    """How much the loss grows within a ball: at most, on average, and at SAM's perturbation.

    Figures: such as `worst_l2_0.05`, `average_l2_0.05` and `first_order_l2_0.05`; their names begin
    with `adaptive_` and end with `_normalized` where that was measured, and with the batch size,
    such as `_m200`, where each batch has a perturbation of its own. The average never has that.
    Among the details, a note says where the gradient is zero, so that the ascent to the worst case
    begins with a random step.

    Attributes:
        radius, norm, adaptive, normalize_logits, per_batch: see `vasso_jax.sharpness.worst_case`.
        steps: of the ascent.
        samples: random perturbations.
        seed: of these.
    """

    kind: ClassVar[str] = "ball"
    radius: float
    norm: Norm = "l2"
    adaptive: bool = False
    normalize_logits: bool = False
    per_batch: bool = False
    steps: int = 20
    samples: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("norm", self.norm, get_args(Norm))
        check_positive("a radius of the ball", self.radius)
        if not _LEAST <= self.radius <= _GREATEST:
            raise ValueError(
                f"a radius of the ball must be a number > 0 that float32 has, got {self.radius}"
            )
        check_flags(
            adaptive=self.adaptive,
            normalize_logits=self.normalize_logits,
            per_batch=self.per_batch,
        )
        check_count("steps", self.steps)
        check_count("samples", self.samples)
        check_count("seed", self.seed, least=0)

    def __call__(self, objective: Objective, params: Any, progress: Progress) -> Found:
        """Computes them, one after the other.

        Raises:
            ValueError: there is one batch only, and it is to have a perturbation of its own.
        """
        batches, batch_size = objective.weights.shape
        if self.per_batch and batches == 1:
            raise ValueError("per_batch has no effect on one batch: choose a smaller batch_size")
        parts, of_batch = (batches, f"_m{batch_size}") if self.per_batch else (1, "")
        # As many as each of them will report.
        passes = {
            "worst": 1 + parts * (self.steps + 1),
            "average": 1 + self.samples,
            "first_order": 1 + parts * 2,
        }
        sampling = {"samples": self.samples, "seed": self.seed}
        own = {
            "worst": (worst_case, {"steps": self.steps, "per_batch": self.per_batch}),
            "average": (average_case, sampling),
            "first_order": (first_order, {"per_batch": self.per_batch}),
        }
        figures, details = {}, {}
        before, total = 0, sum(passes.values())
        for name, (function, options) in own.items():

            def report(done: int, _: int, before: int = before) -> None:
                progress(before + done, total)

            found = function(
                objective,
                params,
                self.radius,
                self.norm,
                adaptive=self.adaptive,
                normalize_logits=self.normalize_logits,
                progress=report,
                **options,
            )
            before += passes[name]
            ending = of_batch if "per_batch" in options else ""
            figures[self._figure(name) + ending] = float(found.value)
            details[name] = as_json(found)
        error = details["average"]["standard_error"]
        details["standard_errors"] = {self._figure("average"): error}
        if flat := details["worst"]["random_starts"]:
            where = f"in {flat} of {parts} batches" if self.per_batch else "at the weights"
            details["notes"] = [
                f"{self._figure('worst')}{of_batch}: the gradient is zero {where}, so the ascent "
                "begins with a random step there"
            ]
        return Found(figures, details)

    def _figure(self, name: str) -> str:
        adaptive = "adaptive_" if self.adaptive else ""
        normalized = "_normalized" if self.normalize_logits else ""
        return f"{adaptive}{name}_{self.norm}_{self.radius:g}{normalized}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slice(Settings):
    """The loss on a line or a plane through the parameters; it has no figures.

    The directions are random, and filter-normalised.

    Attributes:
        dimensions: `1d` or `2d`.
        reach: the positions along each axis go from -reach to reach, where 1 is as long as the
            filters of the parameters.
        points: along each axis; odd, so that the parameters are one of them.
        seed: of the directions.
    """

    kind: ClassVar[str] = "slice"
    dimensions: str
    reach: float = 1.0
    points: int = 21
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("slice", self.dimensions, DIMENSIONS)
        check_positive("reach of a slice", self.reach)
        check_count("points", self.points, least=3)
        if self.points % 2 == 0:
            raise ValueError(f"points must be odd, so that the middle is one, got {self.points}")
        check_count("seed", self.seed, least=0)

    def __call__(self, objective: Objective, params: Any, progress: Progress) -> Found:
        """Computes it."""
        positions = np.linspace(-self.reach, self.reach, self.points)
        first, second = (slices.filter_normalized(params, 2 * self.seed + i) for i in (0, 1))
        if self.dimensions == "1d":
            found = slices.line(objective, params, first, positions, progress)
        else:
            axes = (first, second)
            found = slices.surface(objective, params, axes, positions, positions, progress)
        return Found({}, as_json(found))
