"""Measuring tools for sharpness-aware methods, of any loss in plain JAX."""

from vasso_jax.sharpness.average import AverageCase, average_case
from vasso_jax.sharpness.ball import FirstOrder, WorstCase, first_order, worst_case
from vasso_jax.sharpness.curves import (
    Curve,
    along,
    along_random,
    averaged_direction,
    sam_direction,
)
from vasso_jax.sharpness.density import Density, spectral_density
from vasso_jax.sharpness.direction_errors import (
    DirectionErrors,
    measure_directions,
    minibatch_gradients,
)
from vasso_jax.sharpness.objective import Objective, mean_loss
from vasso_jax.sharpness.operators import (
    Operator,
    fisher,
    gauss_newton,
    hessian,
    sample_labels,
)
from vasso_jax.sharpness.pictures import plot_curves, plot_densities, plot_lines, plot_plane
from vasso_jax.sharpness.slices import (
    Line,
    Plane,
    filter_normalized,
    interpolation,
    line,
    plane,
    surface,
)
from vasso_jax.sharpness.spectrum import Eigenpairs, eigenvalues
from vasso_jax.sharpness.traces import Trace, trace

__all__ = [
    "AverageCase",
    "Curve",
    "Density",
    "DirectionErrors",
    "Eigenpairs",
    "FirstOrder",
    "Line",
    "Objective",
    "Operator",
    "Plane",
    "Trace",
    "WorstCase",
    "along",
    "along_random",
    "average_case",
    "averaged_direction",
    "eigenvalues",
    "filter_normalized",
    "first_order",
    "fisher",
    "gauss_newton",
    "hessian",
    "interpolation",
    "line",
    "mean_loss",
    "measure_directions",
    "minibatch_gradients",
    "plane",
    "plot_curves",
    "plot_densities",
    "plot_lines",
    "plot_plane",
    "sam_direction",
    "sample_labels",
    "spectral_density",
    "surface",
    "trace",
    "worst_case",
]
