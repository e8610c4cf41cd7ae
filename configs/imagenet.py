"""What the ImageNet experiments share; no experiment itself.

Data: tensorflow-datasets' imagenet2012, or the folders train/CLASS/*.JPEG and val/CLASS/*.JPEG with
--config.dataset=folder --config.data_dir=DIR.
"""

from ml_collections import ConfigDict

from configs import default
from vasso_jax.choices import check_choice

METHODS = ("sgd", "sam", "asam", "vasso")  # `sgd`: the base optimizer alone, whichever it is


def get_config(model: str, optimizer: str, rho: float, asam_rho: float) -> ConfigDict:
    """One of the METHODS, with the authors' default theta, 0.9.

    Raises:
        ValueError: another method.
    """
    check_choice("optimizer", optimizer, METHODS)
    config = default.get_config()
    config.dataset = "imagenet2012"
    config.crop_padding = 0
    config.flip = True
    config.model = model
    config.dtype = "bfloat16"
    config.optimizer = optimizer
    if optimizer != "sgd":
        config.rho = asam_rho if optimizer == "asam" else rho
    if optimizer == "vasso":
        config.theta = 0.9
    return config
