"""What can be measured: each a set of settings that makes figures and details of a loss."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from vasso_jax.names import check_choice
from vasso_jax.sharpness import ball, slices
from vasso_jax.sharpness.checks import check_count
from vasso_jax.sharpness.density import spectral_density
from vasso_jax.sharpness.objective import Objective
from vasso_jax.sharpness.operators import hessian
from vasso_jax.sharpness.spectrum import eigenvalues
from vasso_jax.sharpness.traces import trace

Progress = Callable[[int, int], None]
NORMS = ("l2", "linf")
DIMENSIONS = ("1d", "2d")
# Of the smallest eigenvalue, at most: it often cannot be told from zero.
_RELATIVE_ERROR = 0.1


class Found(NamedTuple):
    """Figures and details, as `vasso_jax.runs.sharpness` describes them."""

    figures: dict[str, float]
    details: dict[str, Any]


class Measure(Protocol):
    """The settings are the fields of a dataclass; `kind` tells the measures apart."""

    kind: ClassVar[str]

    @property
    def settings(self) -> dict[str, Any]: ...

    def __call__(self, objective: Objective, params: Any, progress: Progress) -> Found: ...


class _Settings:
    @property
    def settings(self) -> dict[str, Any]:
        """The fields, by name."""
        return dataclasses.asdict(self)  # pyright: ignore[reportArgumentType]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hessian(_Settings):
    """The extreme eigenvalues of the Hessian.

    Figures: `lambda_1`, the largest; `lambda_1_over_5`, its ratio to the fifth, if there are so
    many; `lambda_min`, the smallest, if it was asked for and its residual, which bounds its error,
    is at most a tenth of it. All values and residuals are among the details.

    Attributes:
        largest: how many of the largest.
        smallest: how many of the smallest. In a minimum these lie close together near zero, and
            take many more products than the largest.
        tolerance: see `eigenvalues`.
        seed: of the start.
    """

    kind: ClassVar[str] = "hessian"
    largest: int = 5
    smallest: int = 0
    tolerance: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("largest", self.largest)
        check_count("smallest", self.smallest, least=0)
        check_count("seed", self.seed, least=0)
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance must be between 0 and 1, got {self.tolerance}")

    def __call__(self, objective: Objective, params: Any, progress: Progress) -> Found:
        """Computes them."""
        found = eigenvalues(
            hessian(objective, params),
            largest=self.largest,
            smallest=self.smallest,
            tolerance=self.tolerance,
            seed=self.seed,
            progress=progress,
        )
        values = [float(value) for value in found.values]
        figures, details = {"lambda_1": values[0]}, _as_json(found, without=("vectors",))
        if self.largest >= 5 and values[4] > 0:
            figures["lambda_1_over_5"] = values[0] / values[4]
        if self.smallest:
            error = float(found.residuals[-1])
            if error <= _RELATIVE_ERROR * abs(values[-1]):
                figures["lambda_min"] = values[-1]
            else:
                note = (
                    f"lambda_min is left out: {values[-1]:.2g}, with an error of up to {error:.2g}"
                )
                details["notes"] = [note]
        return Found(figures, details)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trace(_Settings):
    """The trace of the Hessian by Hutchinson's estimate.

    Figures: `trace`; its standard error is among the details.

    Attributes:
        samples: random vectors, each a product with the Hessian.
        seed: of the vectors.
    """

    kind: ClassVar[str] = "trace"
    samples: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("samples of the trace", self.samples, least=2)
        check_count("seed", self.seed, least=0)

    def __call__(self, objective: Objective, params: Any, progress: Progress) -> Found:
        """Estimates it."""
        found = trace(
            hessian(objective, params), samples=self.samples, seed=self.seed, progress=progress
        )
        details = _as_json(found) | {"standard_errors": {"trace": float(found.standard_error)}}
        return Found({"trace": float(found.value)}, details)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Density(_Settings):
    """The density of the eigenvalues of the Hessian; it has no figures.

    Attributes:
        probes: random vectors.
        steps: of Lanczos for each, one product with the Hessian each; of a network with fewer
            parameters, as many.
        seed: of the vectors.
    """

    kind: ClassVar[str] = "density"
    probes: int = 10
    steps: int = 90
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("probes", self.probes)
        check_count("steps", self.steps)
        check_count("seed", self.seed, least=0)

    def __call__(self, objective: Objective, params: Any, progress: Progress) -> Found:
        """Estimates it."""
        operator = hessian(objective, params)
        steps = min(self.steps, operator.size)
        found = spectral_density(
            operator, probes=self.probes, steps=steps, seed=self.seed, progress=progress
        )
        return Found({}, _as_json(found))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ball(_Settings):
    """How much the loss grows within a ball: at most, on average, and at SAM's perturbation.

    Figures: such as `worst_l2_0.05`, `average_l2_0.05` and `first_order_l2_0.05`; their names begin
    with `adaptive_` and end with `_normalized` where that was measured.

    Attributes:
        radius, norm, adaptive, normalize_logits: see `vasso_jax.sharpness.ball`.
        steps: of the ascent.
        samples: random perturbations.
        seed: of these.
    """

    kind: ClassVar[str] = "ball"
    radius: float
    norm: str = "l2"
    adaptive: bool = False
    normalize_logits: bool = False
    steps: int = 20
    samples: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("norm", self.norm, NORMS)
        if not 0 < self.radius < math.inf:
            raise ValueError(f"a radius of the ball must be a number > 0, got {self.radius}")
        check_count("steps", self.steps)
        check_count("samples", self.samples)
        check_count("seed", self.seed, least=0)

    def __call__(self, objective: Objective, params: Any, progress: Progress) -> Found:
        """Computes them, one after the other."""
        # Each says so itself, but only once it has begun.
        passes = {"worst": self.steps + 2, "average": self.samples + 1, "first_order": 3}
        own = {
            "worst": (ball.worst_case, {"steps": self.steps}),
            "average": (ball.average_case, {"samples": self.samples, "seed": self.seed}),
            "first_order": (ball.first_order, {}),
        }
        figures, details = {}, {}
        before = 0
        for name, (function, options) in own.items():

            def report(done: int, expected: int, name: str = name, before: int = before) -> None:
                passes[name] = expected
                progress(before + done, sum(passes.values()))

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
            figures[self._figure(name)] = float(found.value)
            details[name] = _as_json(found)
        error = details["average"]["standard_error"]
        details["standard_errors"] = {self._figure("average"): error}
        return Found(figures, details)

    def _figure(self, name: str) -> str:
        adaptive = "adaptive_" if self.adaptive else ""
        normalized = "_normalized" if self.normalize_logits else ""
        return f"{adaptive}{name}_{self.norm}_{self.radius:g}{normalized}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slice(_Settings):
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
        if not 0 < self.reach < math.inf:
            raise ValueError(f"reach of a slice must be a number > 0, got {self.reach}")
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
        return Found({}, _as_json(found))


def _as_json(found: Any, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """A NamedTuple of numbers, arrays and trees of them; None for what is not finite."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(x) for key, x in value.items()}
        if isinstance(value, list | tuple):
            return [plain(x) for x in value]
        if isinstance(value, str | bool | int) or value is None:
            return value
        if np.ndim(value):
            return [plain(x) for x in np.asarray(value)]
        number = np.asarray(value).item()
        return number if not isinstance(number, float) or math.isfinite(number) else None

    return {name: plain(value) for name, value in found._asdict().items() if name not in without}
