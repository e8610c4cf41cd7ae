"""Sharpness-aware optimizers with variance suppression (VaSSO) for JAX, and an image trainer."""
