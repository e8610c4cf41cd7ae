"""The sharpness of finished runs: `measure(run, measures)`, and the loss that is measured."""

from vasso_jax.measurement.loss import LossOptions, objective
from vasso_jax.measurement.measures import Ball, Density, Hessian, Measure, Slice, Trace
from vasso_jax.measurement.measuring import Report, Target, find_target, measure

__all__ = [
    "Ball",
    "Density",
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
