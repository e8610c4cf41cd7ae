"""VaSSO on scikit-learn's 1,797 handwritten digits: no download, under a minute on a CPU.

Source     Li and Giannakis, NeurIPS 2023, arXiv 2309.15639, for the method; the setting is ours.
Expected   test top-1 of at least 0.98 on the 359 held-out digits.
Command    python main.py --config=configs/digits_vasso.py --workdir=runs/digits
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    config = default.get_config()
    config.rho = 0.1
    config.theta = 0.4
    return config
