"""Sharpness-aware optimizers with variance suppression (VaSSO), and a trainer for image models."""

__version__ = "0.2.0"
