"""Downloads and prepares CIFAR-10 and CIFAR-100 without TensorFlow."""

from vasso_jax.data.prepare.preparation import PREPARABLE, prepare

__all__ = ["PREPARABLE", "prepare"]
