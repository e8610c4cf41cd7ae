"""WRN-28-10 on CIFAR-10, by SGD, SAM, ASAM or VaSSO.

Source     configs/cifar.py; the learning rate is that of train.sh, written for WRN-28-10.
Expected   test top-1 in % in the authors' chart (their best epoch):
           SGD 97.07, SAM 97.32, ASAM 97.15, VaSSO 97.54.
           Not yet run here to the end.
Command    python main.py --config=configs/cifar10_wrn28_10.py:vasso
           (or :sgd, :sam, :asam), in the run folder runs/cifar10_wrn28_10_vasso
"""

from ml_collections import ConfigDict

from configs import cifar


def get_config(optimizer: str = "vasso") -> ConfigDict:
    config = cifar.get_config("cifar10", "wrn28_10", optimizer)
    config.lr = 0.1
    return config
