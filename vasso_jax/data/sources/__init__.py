"""Where data sets come from: copies by tensorflow-datasets, folders, .npz files, scikit-learn."""

from vasso_jax.data.sources.load import DATASETS, HUMAN_LABELS, load

__all__ = ["DATASETS", "HUMAN_LABELS", "load"]
