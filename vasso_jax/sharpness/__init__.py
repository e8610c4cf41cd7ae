"""Measuring tools for sharpness-aware methods, of any loss in plain JAX."""

from vasso_jax.sharpness.density import Density, plot_densities, spectral_density
from vasso_jax.sharpness.direction_errors import DirectionErrors, measure_directions
from vasso_jax.sharpness.objective import Objective, mean_loss
from vasso_jax.sharpness.operators import (
    Operator,
    fisher,
    gauss_newton,
    hessian,
    sample_labels,
)
from vasso_jax.sharpness.spectrum import Eigenpairs, eigenvalues
from vasso_jax.sharpness.traces import Trace, trace

__all__ = [
    "Density",
    "DirectionErrors",
    "Eigenpairs",
    "Objective",
    "Operator",
    "Trace",
    "eigenvalues",
    "fisher",
    "gauss_newton",
    "hessian",
    "mean_loss",
    "measure_directions",
    "plot_densities",
    "sample_labels",
    "spectral_density",
    "trace",
]
