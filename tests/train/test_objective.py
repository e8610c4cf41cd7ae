"""The loss that is measured: that of an evaluation, or with the statistics of the batch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.own_parts import Bare
from vasso_jax import data
from vasso_jax.train.objective import network_loss

MEAN, STD = 0.25, 0.5
COUNT, EPSILON = 12, 1e-5
RNG = np.random.default_rng(0)
IMAGES = data.Split(
    RNG.integers(0, 256, (COUNT, 4, 4, 1)).astype(np.uint8), RNG.integers(0, 3, COUNT)
)
VARIABLES = {
    "params": {
        "first": {"kernel": RNG.normal(size=(16, 4)).astype(np.float32)},
        "bn": {"scale": np.float32([1, 2, 3, 4]), "bias": np.float32([0, 1, 0, -1])},
        "last": {"kernel": RNG.normal(size=(4, 3)).astype(np.float32)},
    },
    "batch_stats": {"bn": {"mean": np.float32([1, 0, 2, 0]), "var": np.float32([1, 2, 1, 2])}},
}


class Net(nn.Module):
    """A linear layer, a BatchNorm, dropout and a linear layer."""

    dropout: float = 0.0
    dtype: type = jnp.float32

    @nn.compact
    def __call__(self, x, train):
        x = x.reshape(len(x), -1).astype(self.dtype)
        x = nn.Dense(4, use_bias=False, dtype=self.dtype, name="first")(x)
        x = nn.BatchNorm(not train, epsilon=EPSILON, dtype=self.dtype, name="bn")(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(3, use_bias=False, dtype=self.dtype, name="last")(x)


class Noisy(Net):
    """Draws random numbers of its own while it is trained."""

    @nn.compact
    def __call__(self, x, train):
        if train:
            x = x + jax.random.normal(self.make_rng("dropout"), x.shape)
        return super().__call__(x, train)


def loss(model, batch_size=COUNT, scale=1.0, variables=VARIABLES, images=IMAGES, **options):
    """At parameters whose first kernel is `scale` times as large."""
    objective, params = network_loss(
        model, variables, images, (MEAN,), (STD,), batch_size=batch_size, **options
    )
    params["first"]["kernel"] *= scale
    return float(objective.value(params))


def by_hand(of_batch, chosen=slice(None)):
    """The same in NumPy."""
    (first, bn, last), statistics = VARIABLES["params"].values(), VARIABLES["batch_stats"]["bn"]
    images, labels = IMAGES.images[chosen], IMAGES.labels[chosen]
    x = ((images / 255 - MEAN) / STD).reshape(len(images), -1) @ kernel_of(first)
    mean, var = (x.mean(0), x.var(0)) if of_batch else statistics.values()
    logits = ((x - mean) / np.sqrt(var + EPSILON) * bn["scale"] + bn["bias"]) @ kernel_of(last)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return -np.log(shares[np.arange(len(labels)), labels]).mean()


def kernel_of(layer):
    return layer["kernel"].astype(float)


def test_with_running_statistics_it_is_that_of_an_evaluation():
    assert loss(Net()) == pytest.approx(by_hand(of_batch=False), rel=1e-5)
    assert loss(Net(), batch_size=5) == pytest.approx(loss(Net()), rel=1e-5)


def test_with_those_of_the_batch_it_is_that_of_training_without_dropout():
    whole = loss(Net(dropout=0.5), batch_stats="batch")
    assert whole == pytest.approx(by_hand(of_batch=True), rel=1e-5)
    halves = [by_hand(True, slice(start, start + 6)) for start in (0, 6)]
    in_batches = loss(Net(dropout=0.5), batch_size=6, batch_stats="batch")
    assert in_batches == pytest.approx(np.mean(halves), rel=1e-5)


def test_with_those_of_the_batch_only_whole_batches_are_taken():
    """Copies that fill one up would have no weight, and yet change its statistics."""
    halves = [by_hand(True, slice(start, start + 5)) for start in (0, 5)]
    in_batches = loss(Net(), batch_size=5, batch_stats="batch")
    assert in_batches == pytest.approx(np.mean(halves), rel=1e-5)
    whole = loss(Net(), batch_size=COUNT + 1, batch_stats="batch")
    assert whole == pytest.approx(by_hand(of_batch=True), rel=1e-5)


def test_the_statistics_of_the_batch_follow_the_parameters():
    """What comes before a BatchNorm can then be scaled."""
    for which, follows in (("batch", True), ("running", False)):
        scaled, plain = (loss(Net(), scale=s, batch_stats=which) for s in (2.0, 1.0))
        assert (scaled == pytest.approx(plain, rel=1e-4)) == follows


def test_it_is_computed_in_float32():
    assert loss(Net(dtype=jnp.bfloat16)) == loss(Net())


@pytest.mark.parametrize(
    ("model", "which", "message"),
    [
        (Bare(3), "batch", "batch_stats=batch has no effect: the network has no running"),
        (Net(), "none", "there is no choice of batch_stats 'none'"),
        (Noisy(), "batch", "the loss cannot be measured: InvalidRngError"),
    ],
)
def test_what_cannot_be_measured_is_refused(model, which, message):
    variables = {"params": VARIABLES["params"]} if isinstance(model, Bare) else VARIABLES
    with pytest.raises(ValueError, match=message):
        loss(model, variables=variables, batch_stats=which)


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_of_no_class_of_the_network_are_refused(label):
    labels = np.where(np.arange(COUNT) == 7, label, IMAGES.labels)
    with pytest.raises(ValueError, match=r"labels run from .*, the 3 classes from 0 to 2"):
        loss(Net(), images=IMAGES._replace(labels=labels))
