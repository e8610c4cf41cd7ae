"""VaSSO on CIFAR-10 with ResNet-18: short for configs/cifar10_resnet18.py:vasso.

Source     Li and Giannakis, NeurIPS 2023, arXiv 2309.15639, and runs published with the authors'
           code; vasso_jax/train/presets.py.
Expected   test top-1 96.78 % in the authors' chart (their best epoch). Not yet run here to
           the end.
Command    python main.py --config=configs/cifar10_vasso.py
"""

from ml_collections import ConfigDict

from vasso_jax.train.presets import cifar


def get_config() -> ConfigDict:
    return cifar("cifar10", "resnet18", "vasso")
