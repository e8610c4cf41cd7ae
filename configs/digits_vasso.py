"""VaSSO on scikit-learn's handwritten digits: short for configs/digits.py:vasso.

Source     Li and Giannakis, NeurIPS 2023, arXiv 2309.15639, for the method; the setting is ours.
Expected   test top-1 of at least 0.98 on the 359 held-out digits; README.md has three runs.
Command    python main.py --config=configs/digits_vasso.py --workdir=runs/digits
"""

from ml_collections import ConfigDict

from vasso_jax.train.presets import digits


def get_config() -> ConfigDict:
    return digits("vasso")
