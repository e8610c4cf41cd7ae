"""Training: `train(config, workdir)` runs an experiment from its config to its last checkpoint."""

from vasso_jax.train.errors import Stopped, UsageError
from vasso_jax.train.loop import train

__all__ = ["Stopped", "UsageError", "train"]
