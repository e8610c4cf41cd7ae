"""Measures of the Hessian at the parameters."""

import dataclasses
from typing import Any, ClassVar

from vasso_jax.measurement.measures import Found, Settings, as_json
from vasso_jax.sharpness.checks import check_count, check_positive
from vasso_jax.sharpness.density import spectral_density
from vasso_jax.sharpness.objective import Objective
from vasso_jax.sharpness.operators import hessian
from vasso_jax.sharpness.progress import Progress
from vasso_jax.sharpness.spectrum import eigenvalues
from vasso_jax.sharpness.traces import trace

# Of the smallest eigenvalue, at most: it often cannot be told from zero.
_RELATIVE_ERROR = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hessian(Settings):
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
        check_positive("tolerance", self.tolerance, below=1)

    def __call__(self, objective: Objective, params: Any, progress: Progress) -> Found:
        """Computes them.

        Raises:
            ValueError: there are not so many.
        """
        operator = hessian(objective, params)
        if self.largest + self.smallest > operator.size:
            raise ValueError(
                f"{self.largest} largest and {self.smallest} smallest eigenvalues are more than "
                f"there are, {operator.size:,}, one per parameter: ask for fewer"
            )
        found = eigenvalues(
            operator,
            largest=self.largest,
            smallest=self.smallest,
            tolerance=self.tolerance,
            seed=self.seed,
            progress=progress,
        )
        values = [float(value) for value in found.values]
        figures, details = {"lambda_1": values[0]}, as_json(found, without=("vectors",))
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
class Trace(Settings):
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
        check_count("samples", self.samples, least=2)
        check_count("seed", self.seed, least=0)

    def __call__(self, objective: Objective, params: Any, progress: Progress) -> Found:
        """Estimates it."""
        found = trace(
            hessian(objective, params), samples=self.samples, seed=self.seed, progress=progress
        )
        details = as_json(found) | {"standard_errors": {"trace": float(found.standard_error)}}
        return Found({"trace": float(found.value)}, details)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Density(Settings):
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
        return Found({}, as_json(found))
