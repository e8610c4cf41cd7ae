"""The sharpness of finished runs: `measure(run, measures)`, and the loss that is measured."""

from vasso_jax.measurement.curvature import Density, Hessian, Trace
from vasso_jax.measurement.loss import LossOptions, objective
from vasso_jax.measurement.measures import Found, Measure
from vasso_jax.measurement.measuring import Report, Target, find_target, measure
from vasso_jax.measurement.surroundings import Ball, Slice

__all__ = [
    "Ball",
    "Density",
    "Found",
    "Hessian",
    "LossOptions",
    "Measure",
    "Report",
    "Slice",
    "Target",
    "Trace",
    "find_target",
    "measure",
    "objective",
]
