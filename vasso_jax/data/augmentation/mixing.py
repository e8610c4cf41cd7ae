"""Images of a batch mixed with each other: mixup and cutmix.

Both give an image a partner and a target between the two labels. The partner is the image before
it in the batch, as in big_vision and torchvision. The order of a batch is random, and so partners
are; neighbours also lie on the same device but for one per device, where a permutation would send
every image to another one.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vasso_jax.data.augmentation.options import Augmentation


class Targets(NamedTuple):
    """What the network is to answer: a label, or for a mixed image two.

    Attributes:
        labels: int32 [B].
        partners: int32 [B], the labels of what was mixed in; None: nothing was.
        share: float32 [B], in [0, 1]: what `labels` have of the target; `partners` have the rest.
    """

    labels: jax.Array
    partners: jax.Array | None = None
    share: jax.Array | None = None

    def mean(self, measure: Callable[[jax.Array], jax.Array]) -> jax.Array:
        """The mean over the batch of `measure(labels)`, float32 [B].

        Of a mixed image, it is the mean of what is measured for its two labels, by their shares.
        """
        measured = measure(self.labels)
        if self.partners is not None and self.share is not None:
            measured = self.share * measured + (1 - self.share) * measure(self.partners)
        return measured.mean()


def mix(
    key: jax.Array, pixels: jax.Array, labels: jax.Array, *, options: Augmentation
) -> tuple[jax.Array, Targets]:
    """Mixes each image with its partner, for the whole batch in the same way.

    If both methods are wanted, the batch takes one of them with probability one half, as in
    torchvision's references.

    Args:
        key: PRNG key; the same key gives the same batch on any number of devices.
        pixels: float32 [B, H, W, C], normalised.
        labels: int32 [B].
        options: that mix.

    Returns:
        The mixed pixels and their targets.
    """
    batch, height, width, _ = pixels.shape
    mixup_key, cutmix_key, choice_key = jax.random.split(key, 3)
    masks = []
    if options.mixup_alpha:
        masks.append(mixup_mask(mixup_key, options.mixup_alpha, height, width))
    if options.cutmix_alpha:
        masks.append(cutmix_mask(cutmix_key, options.cutmix_alpha, height, width))
    mask = masks[0]
    if len(masks) > 1:
        mask = jnp.where(jax.random.bernoulli(choice_key), *masks)
    own = mask[..., None]
    mixed = own * pixels + (1 - own) * jnp.roll(pixels, 1, axis=0)
    return mixed, Targets(labels, jnp.roll(labels, 1), jnp.full(batch, mask.mean()))


def mixup_mask(key: jax.Array, alpha: float, height: int, width: int) -> jax.Array:
    """The weight of an image's own pixels (Zhang et al., arXiv 1710.09412), float32 [H, W].

    With lambda from Beta(alpha, alpha), x~ = lambda x_i + (1 - lambda) x_j and
    y~ = lambda y_i + (1 - lambda) y_j.
    """
    return jnp.full((height, width), symmetric_beta(key, alpha))


def cutmix_mask(key: jax.Array, alpha: float, height: int, width: int) -> jax.Array:
    """0 in a box for the partner's pixels, else 1 (Yun et al., arXiv 1905.04899), float32 [H, W].

    With lambda from Beta(alpha, alpha), the box has sqrt(1 - lambda) of each side, rounded down to
    an even number of pixels, and a centre that is uniform over the image. It is clipped at the
    border. The label keeps the share of the image outside of the clipped box, as in the authors'
    code.
    """
    beta_key, row_key, column_key = jax.random.split(key, 3)
    side = jnp.sqrt(1 - symmetric_beta(beta_key, alpha))

    def inside(key: jax.Array, length: int) -> jax.Array:
        offset = jnp.arange(length) - jax.random.randint(key, (), 0, length)
        half = jnp.floor(side * length / 2).astype(jnp.int32)
        return (offset >= -half) & (offset < half)

    box = inside(row_key, height)[:, None] & inside(column_key, width)
    return jnp.where(box, jnp.float32(0), 1)


def symmetric_beta(key: jax.Array, alpha: float) -> jax.Array:
    """A number from Beta(alpha, alpha), float32 scalar.

    `jax.random.beta` rejects candidates in a loop, and the host would wait for it in every step.
    This has none. If lambda is from Beta(alpha, alpha), (2 lambda - 1)^2 is from Beta(1/2, alpha).
    That is the share of one of two Gamma variables in their sum, of shapes 1/2 and alpha. For
    alpha + 1, the share is a squared cosine times a number from Beta(1, alpha + 1/2) (Ulrich's
    method; Devroye, Non-Uniform Random Variate Generation, 1986, chapter IX). A variable of shape
    alpha + 1 times u^(1 / alpha), u uniform, is one of shape alpha.
    """
    angle, radius, power = jax.random.uniform(key, (3,))
    cosine = jnp.cos(2 * jnp.pi * angle)
    share = cosine**2 * (1 - radius ** (1 / (alpha + 0.5)))
    # 1 - power is not 0.
    share = share / (share + (1 - share) * (1 - power) ** (1 / alpha))
    return (1 + jnp.sign(cosine) * jnp.sqrt(share)) / 2
