"""WRN-28-10 on CIFAR-10, by SGD, SAM, ASAM or VaSSO.

Source     vasso_jax/train/presets.py; the learning rate is that of train.sh, written for WRN-28-10.
Expected   test top-1 in % in the authors' chart (their best epoch):
           SGD 97.07, SAM 97.32, ASAM 97.15, VaSSO 97.54.
           Not yet run here to the end.
Command    python main.py --config=configs/cifar10_wrn28_10.py:vasso
           (or :none for SGD alone, :sam, :asam), in the run folder runs/cifar10_wrn28_10_vasso
"""

from ml_collections import ConfigDict

from vasso_jax.train.presets import cifar


def get_config(method: str = "vasso") -> ConfigDict:
    config = cifar("cifar10", "wrn28_10", method)
    config.base.lr = 0.1
    return config
