"""Networks and optimizers that cannot train: one message, before the run starts."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vasso_jax import data, optim
from vasso_jax.train import check, default_config


class Pair(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        logits = nn.Dense(2)(x.reshape(len(x), -1))
        return logits, logits


class Untold(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x.reshape(len(x), -1))


class Bare(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return jnp.zeros((len(x), 2))


class Whole(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        scale = self.param("scale", lambda key: jnp.ones((), jnp.int32))
        return scale * nn.Dense(2)(x.reshape(len(x), -1))


class Noisy(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        noise = jnp.zeros(()) if not train else self.make_rng("noise")
        return nn.Dense(2)(x.reshape(len(x), -1)) + 0 * noise.astype(jnp.float32).sum()


class OnlyInTraining(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = x.reshape(len(x), -1)
        return nn.Dense(2)(nn.Dense(3)(x) if train else x)


class Broken(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(2)(x.reshape(len(x), -1)) @ jnp.zeros((3 if train else 2, 2))


def opened(model=None, tx=None, method=None):
    images, labels = np.arange(8 * 16, dtype=np.uint8).reshape(8, 4, 4, 1), np.arange(8) % 2
    dataset = data.from_arrays("two", (images, labels), (images, labels))
    made = default_config()
    made.batch_size, made.model = 8, {}
    made.method = method or {"name": "sam"} if tx is None else {}
    plan = check(made, model=model or Linear(), dataset=dataset, tx=tx)
    return plan.open(dataset)


class Linear(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(2)(x.reshape(len(x), -1))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Pair(), r"must return logits, an array \[B, num_classes\], and returns a tuple"),
        (Untold(), "Untold must be called as .images, train.*no argument train"),
        (nn.Dense(2), "Dense must be called as .images, train"),
        (Bare(), "no parameters that could be trained"),
        (Whole(), r"parameter \['scale'\] of int32: only floating-point"),
        (Noisy(), "cannot be trained: .*noise.* only random stream in training is dropout"),
        (OnlyInTraining(), "cannot be trained: .*made in the call with train=False"),
    ],
)
def test_a_network_that_breaks_the_contract_is_one_message(model, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        opened(model)


def test_an_error_of_the_networks_own_code_keeps_its_trace():
    with pytest.raises(TypeError, match="dot_general"):
        opened(Broken())


@pytest.mark.parametrize(
    ("tx", "message"),
    [
        (optax.masked(optax.sgd(0.1), {"nope": True}), "does not fit the parameters"),
        (optim.sam(optax.sgd(0.1), mask={"nope": True}), "does not fit the parameters"),
        (
            optax.contrib.sam(optax.sgd(0.1), optax.contrib.normalize()),
            "does not fit .*unexpected keyword argument",
        ),
    ],
)
def test_an_optimizer_that_does_not_fit_the_network_is_one_message(tx, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        opened(tx=tx)


@pytest.mark.parametrize(
    "tx",
    [
        optax.contrib.momo(1.0),
        optax.polyak_sgd(1.0),
        optax.inject_hyperparams(optax.adam)(0.1),
        optax.contrib.schedule_free_sgd(0.1),
        optax.apply_if_finite(optim.vasso(optax.sgd(0.1)), 3),
        optim.looksam(optax.sgd(0.1)),
    ],
)
def test_optimizers_of_many_kinds_pass(tx):
    assert opened(tx=tx).total_steps == 30


def test_a_mask_of_the_config_that_does_not_fit_is_one_message():
    with pytest.raises(ValueError, match="does not fit the parameters"):
        opened(method={"name": "sam", "mask": {"nope": True}})
