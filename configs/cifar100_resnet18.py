"""ResNet-18 on CIFAR-100, by SGD, SAM, ASAM or VaSSO.

Source     vasso_jax/train/presets.py; lr 0.05 as in the published ResNet-18 runs.
Expected   test top-1 in % in the authors' chart (their best epoch): SAM 80.98, VaSSO 81.32.
           Not yet run here to the end.
Command    python main.py --config=configs/cifar100_resnet18.py:vasso
           (or :none for SGD alone, :sam, :asam), in the run folder runs/cifar100_resnet18_vasso
"""

from ml_collections import ConfigDict

from vasso_jax.train.presets import cifar


def get_config(method: str = "vasso") -> ConfigDict:
    return cifar("cifar100", "resnet18", method)
