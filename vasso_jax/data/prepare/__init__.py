"""Data sets that can be downloaded and prepared here, without TensorFlow: the two CIFARs."""

from vasso_jax.data.prepare.preparation import PREPARABLE, prepare

__all__ = ["PREPARABLE", "prepare"]
