"""Augmentation in pure jax.numpy, to run inside the jitted train step.

Each image is cropped, flipped, changed by a policy (RandAugment or TrivialAugment), normalised and
cut out; then the images of a batch are mixed with each other (mixup, cutmix).
"""

from vasso_jax.data.augmentation.mixing import Targets, mix
from vasso_jax.data.augmentation.options import Augmentation
from vasso_jax.data.augmentation.standard import augment, normalize

__all__ = ["Augmentation", "Targets", "augment", "mix", "normalize"]
