"""ResNet-18 on CIFAR-10, by SGD, SAM, ASAM or VaSSO.

Source     vasso_jax/train/presets.py; lr 0.05 as in the published ResNet-18 runs.
Expected   test top-1 in % in the authors' chart (their best epoch):
           SGD 96.25, SAM 96.58, ASAM 96.33, VaSSO 96.78.
           Not yet run here to the end.
Command    python main.py --config=configs/cifar10_resnet18.py:vasso
           (or :none for SGD alone, :sam, :asam), in the run folder runs/cifar10_resnet18_vasso
"""

from ml_collections import ConfigDict

from vasso_jax.train.presets import cifar


def get_config(method: str = "vasso") -> ConfigDict:
    return cifar("cifar10", "resnet18", method)
