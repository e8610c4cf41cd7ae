"""Measuring tools for sharpness-aware methods, of any loss in plain JAX."""

from vasso_jax.sharpness.direction_errors import DirectionErrors, measure_directions

__all__ = ["DirectionErrors", "measure_directions"]
