"""VGG-11 with BatchNorm on CIFAR-10, by SGD, SAM, ASAM or VaSSO.

Source     vasso_jax/train/presets.py; the authors' code has this network (28,149,514 parameters,
           dropout 0.5 in its classifier), but publishes no command for it, so lr 0.05 is that of
           ResNet-18.
Expected   not in the authors' chart, and not yet run here.
Command    python main.py --config=configs/cifar10_vgg11_bn.py:vasso
           (or :none for SGD alone, :sam, :asam), in the run folder runs/cifar10_vgg11_bn_vasso
"""

from ml_collections import ConfigDict

from vasso_jax.train.presets import cifar


def get_config(method: str = "vasso") -> ConfigDict:
    return cifar("cifar10", "vgg11_bn", method)
