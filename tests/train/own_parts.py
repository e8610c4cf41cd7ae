"""Networks, data sets and optimizers of a user's own, and a config to try them with."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax

from vasso_jax import data
from vasso_jax.optim import sam
from vasso_jax.train.presets import digits


class Linear(nn.Module):
    """A BatchNorm of flax over the pixels, and a linear layer."""

    num_classes: int
    momentum: float = 0.9

    @nn.compact
    def __call__(self, x, train):
        x = x.reshape(len(x), -1)
        x = nn.BatchNorm(use_running_average=not train, momentum=self.momentum)(x)
        return nn.Dense(self.num_classes)(x)


def fixed_head(width: int = 2):
    """A function that makes a network, and is not told the number of classes."""
    return Linear(num_classes=width)


class Counting(nn.Module):
    """Has a variable that is neither a parameter nor a statistic."""

    @nn.compact
    def __call__(self, x, train):
        self.variable("counters", "calls", jnp.zeros, ())
        return nn.Dense(2)(x.reshape(len(x), -1))


def halves(train_images: int = 32, bright: int = 200) -> data.ImageDataset:
    """Images whose upper (class 0) or lower half is bright."""

    def draw(count):
        labels = np.arange(count) % 2
        images = np.zeros((count, 4, 4, 1), np.uint8)
        images[labels == 0, :2] = bright
        images[labels == 1, 2:] = bright
        return images, labels

    return data.from_arrays("halves", draw(train_images), draw(8))


def scaled_by_hand(factor: float) -> data.ImageDataset:
    """A data set that is not made by `from_arrays`; with any factor, its pixels are floats."""
    made = halves()
    images = made.train.images * factor if factor != 1 else made.train.images
    train = data.Split(images, made.train.labels.astype(np.int64))
    return data.ImageDataset(
        "by hand", ("upper", "lower"), [0.4], np.array([0.4]), train, made.test
    )


def pair(**fields):
    return "no data set", fields


def careless_pixels(**fields):
    """Takes any field, and does not check it."""
    return np.zeros((fields["size"], 8, 8, 1), np.uint8)


def nowhere_to_be_read():
    raise OSError("no data set")


def any_sgd(lr=0.1, **fields):
    """Takes any field, and uses none."""
    del fields
    return optax.sgd(lr)


def own_refreshing(base, refresh_every: int):
    """Its argument is not that of our recipes."""
    del refresh_every
    return base


def takes_nothing():
    """Lacks its argument."""


def sam_twice(base, rho: float = 0.1, *, factor: float):
    """A method with an argument that must be given."""
    return sam(base, rho * factor)


def accumulating(lr: float):
    """A base that steps at every second batch."""
    return optax.MultiSteps(optax.sgd(lr), 2).gradient_transformation()


def accumulating_sam(base):
    return optax.MultiSteps(sam(base), 2)


def in_halves(base, microbatches=2):
    return sam(base, microbatches=microbatches)


def in_parts(base, *, microbatches):
    return sam(base, microbatches=microbatches)


def careless_sgd(lr=0.1, **fields):
    """Takes any field, and hands it on."""
    return optax.sgd(lr, **fields)


def keyword_only(*, lr=0.1, base=None):
    """Takes nothing by position."""


def position_only(first, rho=0.1, /):
    """Takes nothing by name."""


def first_by_position(rate, /, momentum=0.9):
    """A base whose learning rate can only be given by position."""
    return optax.sgd(rate, momentum)


def nothing(first):
    """Forgets to return what it has made."""


def sam_hidden(base):
    """SAM where it cannot ask for its gradients, as it does not come first."""
    return optax.chain(optax.clip(1.0), sam(base))


class Bare(nn.Module):
    """A network without running statistics."""

    num_classes: int

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(self.num_classes)(x.reshape(len(x), -1))


def config(**sections):
    made = digits("none")
    made.augment = {}
    made.update({"epochs": 2, "batch_size": 16, "tensorboard": False})
    for section, value in sections.items():
        made[section] = value
    return made


HERE = "tests.train.own_parts"
