"""A small wide ResNet on scikit-learn's 1,797 handwritten digits: no download, under a minute.

Source     Li and Giannakis, NeurIPS 2023, arXiv 2309.15639, for the method; the setting is ours.
Expected   test top-1 of at least 0.98 on the 359 held-out digits.
Command    python main.py --config=configs/digits.py:vasso
           (or :none for SGD alone, :sam, :asam), in the run folder runs/digits_vasso
"""

from ml_collections import ConfigDict

from vasso_jax.train.presets import digits


def get_config(method: str = "vasso") -> ConfigDict:
    return digits(method)
