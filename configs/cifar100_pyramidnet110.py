"""PyramidNet-110 (alpha 270) on CIFAR-100, by SGD, SAM, ASAM or VaSSO.

Source     vasso_jax/train/presets.py; the authors publish no command for this network, so lr
           0.05 is that of ResNet-18.
Expected   test top-1 in % in the authors' chart (their best epoch):
           SGD 83.50, SAM 85.39, ASAM 85.06, VaSSO 85.85.
           Not yet run here to the end.
Command    python main.py --config=configs/cifar100_pyramidnet110.py:vasso
           (or :none for SGD alone, :sam, :asam); its run folder: runs/cifar100_pyramidnet110_vasso
"""

from ml_collections import ConfigDict

from vasso_jax.train.presets import cifar


def get_config(method: str = "vasso") -> ConfigDict:
    return cifar("cifar100", "pyramidnet110", method)
