"""ResNet-18 on CIFAR-10 with wrong training labels, by SGD, SAM, ASAM or VaSSO.

Source     The study of robustness in arXiv 2309.15639; its finding: the gain of VaSSO over SAM
           grows with the noise, and a smaller theta is better then. Setting: that of
           configs/cifar10_resnet18.py; the noise is symmetric (40 % of the labels become another
           class). --config.label_noise.rate=0.25 and the like for other rates;
           --config.label_noise.kind=asymmetric for the confusions of arXiv 1609.03683. For human
           labels (CIFAR-10N): --config=configs/cifar10_resnet18.py:vasso
           --config.data.name=cifar10_n --config.data.human_labels=worse
Expected   not yet run here to the end.
Command    python main.py --config=configs/cifar10_label_noise.py:vasso
           (or :none for SGD alone, :sam, :asam), in the run folder runs/cifar10_label_noise_vasso
"""

from ml_collections import ConfigDict

from vasso_jax.train.presets import cifar


def get_config(method: str = "vasso") -> ConfigDict:
    config = cifar("cifar10", "resnet18", method)
    config.label_noise = {"kind": "symmetric", "rate": 0.4}
    if method == "vasso":
        config.method.theta = 0.2
    return config
