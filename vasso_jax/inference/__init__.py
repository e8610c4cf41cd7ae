"""A finished run, to be used: `load_run(folder)` gives the network, its weights and `predict`."""

from vasso_jax.inference.export import exported_program, named_weights
from vasso_jax.inference.preprocessing import Preprocessing
from vasso_jax.inference.trained_run import TrainedRun, load_run

__all__ = ["Preprocessing", "TrainedRun", "exported_program", "load_run", "named_weights"]
