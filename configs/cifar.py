"""What the paper's CIFAR experiments share; no experiment itself.

Source     train.sh of https://github.com/BingcongLi/VaSSO (arXiv 2309.15639) and runs published
           with that code: SGD with momentum 0.9, batch 128, 200 epochs, cosine to 0, weight decay
           1e-3, crop, flip and cutout; rho 0.1 for CIFAR-10 and 0.2 for CIFAR-100; theta 0.4 (0.2
           was published beside it) for CIFAR-10 and 0.9 for CIFAR-100. ASAM's rho, 0.5 and 1, is
           that of its own paper (arXiv 2102.11600).
"""

from ml_collections import ConfigDict

from configs import default
from vasso_jax.choices import check_choice

METHODS = ("sgd", "sam", "asam", "vasso")


def get_config(dataset: str, model: str, optimizer: str) -> ConfigDict:
    """One of the METHODS on `cifar10` or `cifar100`.

    Raises:
        ValueError: another method.
    """
    check_choice("optimizer", optimizer, METHODS)
    easy = dataset == "cifar10"
    config = default.get_config()
    config.dataset = dataset
    config.crop_padding = 4
    config.flip = True
    config.cutout_size = 16
    config.cutout_probability = 0.5
    config.model = model
    config.optimizer = optimizer
    if optimizer == "asam":
        config.rho = 0.5 if easy else 1.0
    elif optimizer != "sgd":
        config.rho = 0.1 if easy else 0.2
    if optimizer == "vasso":
        config.theta = 0.4 if easy else 0.9
    config.lr = 0.05
    config.weight_decay = 1e-3
    config.epochs = 200
    return config
