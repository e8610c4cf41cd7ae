"""WRN-28-10 on CIFAR-100, the authors' train.sh, by SGD, SAM, ASAM or VaSSO.

Source     vasso_jax/train/presets.py; lr 0.1, rho 0.2, theta 0.9 and seed 3107 as in train.sh.
Expected   test top-1 in % in the authors' chart (their best epoch):
           SGD 81.71, SAM 84.76, ASAM 83.55, VaSSO 85.06.
           Not yet run here to the end.
Command    python main.py --config=configs/cifar100_wrn28_10.py:vasso
           (or :none for SGD alone, :sam, :asam), in the run folder runs/cifar100_wrn28_10_vasso
"""

from ml_collections import ConfigDict

from vasso_jax.train.presets import cifar


def get_config(method: str = "vasso") -> ConfigDict:
    config = cifar("cifar100", "wrn28_10", method)
    config.base.lr = 0.1
    config.seed = 3107
    return config
