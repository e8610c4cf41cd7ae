"""What several experiments share; each file in configs/ says the rest."""

from typing import Any

from vasso_jax.train.config.fields import Config, default_config


def digits(method: str) -> Config:
    """A small wide ResNet on scikit-learn's digits, shifted by up to a pixel; rho and theta ours.

    Args:
        method: see `cifar`.
    """
    config = default_config()
    config.method = _method(method, rho=0.1, adaptive_rho=0.5, theta=0.4)
    config.augment.crop_padding = 1
    return config


def cifar(dataset: str, model: str, method: str) -> Config:
    """The CIFAR experiments of the VaSSO paper.

    SGD with momentum 0.9, batch 128, 200 epochs, cosine to 0, weight decay 1e-3, crop, flip and
    cutout; rho 0.1 for CIFAR-10 and 0.2 for CIFAR-100; theta 0.4 (0.2 was published beside it) for
    CIFAR-10 and 0.9 for CIFAR-100. From train.sh of https://github.com/BingcongLi/VaSSO (arXiv
    2309.15639) and runs published with that code. ASAM's rho, 0.5 and 1, is that of its own paper
    (arXiv 2102.11600).

    Args:
        dataset: `cifar10` or `cifar100`.
        model: name of the network.
        method: name of the method; `none` is SGD alone. Those that do not follow from SAM, ASAM
            and VaSSO by the radii above have their own defaults.
    """
    easy = dataset == "cifar10"
    rho, adaptive_rho = (0.1, 0.5) if easy else (0.2, 1.0)
    config = default_config()
    config.method = _method(method, rho, adaptive_rho, theta=0.4 if easy else 0.9)
    config.base = {"name": "sgd", "lr": 0.05, "weight_decay": 1e-3}
    config.model.name = model
    config.data.name = dataset
    config.augment = {
        "crop_padding": 4,
        "flip": True,
        "cutout_size": 16,
        "cutout_probability": 0.5,
    }
    config.epochs = 200
    return config


def imagenet(model: str, method: str) -> Config:
    """The ImageNet experiments: bfloat16 arithmetic, flips and random resized crops.

    The data is tensorflow-datasets' imagenet2012, or the folders train/CLASS/*.JPEG and
    val/CLASS/*.JPEG with --config.data.name=folder --config.data.dir=DIR. rho 0.05 is SAM's own for
    ImageNet (arXiv 2010.01412), ASAM's 1 is its own (arXiv 2102.11600); theta 0.9 is the default of
    VaSSO's authors.

    Args:
        model: name of the network.
        method: see `cifar`.
    """
    config = default_config()
    config.method = _method(method, rho=0.05, adaptive_rho=1.0, theta=0.9)
    config.model = {"name": model, "dtype": "bfloat16"}
    config.data.name = "imagenet2012"
    config.augment = {"flip": True}
    return config


def _method(name: str, rho: float, adaptive_rho: float, theta: float) -> dict[str, Any]:
    rates = {
        "sam": {"rho": rho},
        "asam": {"rho": adaptive_rho},
        "vasso": {"rho": rho, "theta": theta},
        "vasso_asam": {"rho": adaptive_rho, "theta": theta},
    }
    return {"name": name, **rates.get(name, {})}
