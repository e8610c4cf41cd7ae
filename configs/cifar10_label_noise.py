"""ResNet-18 on CIFAR-10 with wrong training labels, by SGD, SAM, ASAM or VaSSO.

Source     The study of robustness in arXiv 2309.15639; its finding: the gain of VaSSO over SAM
           grows with the noise, and a smaller theta is better then. Setting: configs/cifar.py; the
           noise is symmetric (40 % of the labels become another class).
           --config.label_noise_rate=0.25 and the like for other rates;
           --config.label_noise=asymmetric for the confusions of arXiv 1609.03683; for the labels
           of people (CIFAR-10N) --config.dataset=cifar10_n --config.human_labels=worse
           --config.label_noise=
Expected   not yet run here to the end.
Command    python main.py --config=configs/cifar10_label_noise.py:vasso
           (or :sgd, :sam, :asam), in the run folder runs/cifar10_label_noise_vasso
"""

from ml_collections import ConfigDict

from configs import cifar


def get_config(optimizer: str = "vasso") -> ConfigDict:
    config = cifar.get_config("cifar10", "resnet18", optimizer)
    config.label_noise = "symmetric"
    config.label_noise_rate = 0.4
    if optimizer == "vasso":
        config.theta = 0.2
    return config
