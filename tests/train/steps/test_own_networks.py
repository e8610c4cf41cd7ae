"""Networks and optimizers that cannot be trained: one message each, before the run begins."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from tests.train.own_parts import Linear, config, halves
from vasso_jax.optim import l2_ball, sam
from vasso_jax.train import UsageError, check, train

pytestmark = pytest.mark.slow


class Net(nn.Module):
    """A linear layer, and what a test adds to it."""

    does: str = ""

    @nn.compact
    def __call__(self, x, train):
        x = x.reshape(len(x), -1)
        if self.does == "no parameters":
            return x[:, :2]
        if self.does == "layers in training only" and train:
            x = nn.Dense(3)(x)
        if self.does == "statistics in training only" and train:
            x = nn.BatchNorm(use_running_average=False, use_bias=False, use_scale=False)(x)
        if self.does == "BatchNorm without a mode":
            x = nn.BatchNorm()(x)
        if self.does == "integers":
            x += self.param("offset", lambda key: jnp.zeros((), jnp.int32))
        if self.does == "noise" and train:
            x += nn.Dropout(0.5, rng_collection="noise")(x, deterministic=False)
        if self.does == "dropout always":
            x = nn.Dropout(0.5)(x, deterministic=False)
        if self.does == "nothing said" and train:
            raise AssertionError
        wide = jnp.float64 if self.does == "float64 parameters" else jnp.float32
        logits = nn.Dense(2, param_dtype=wide)(x)
        if self.does == "float64 arithmetic":
            return logits.astype(jnp.float64)
        if self.does == "pair":
            return logits, x
        if self.does == "pair in training" and train:
            return logits, x
        if self.does == "dict":
            return {"logits": logits}
        if self.does == "classes":
            return logits.argmax(-1)
        if self.does == "mean":
            return logits.mean(0, keepdims=True)
        return logits


class Convolution(nn.Module):
    """Takes no `train`."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x.reshape(len(x), -1))


def refused(tmp_path, message, **parts):
    """Training must end with a message that begins so, and leave no run folder."""
    parts = {"dataset": halves(), "tx": optax.sgd(0.1), "model": Net()} | parts
    with pytest.raises(UsageError, match=f"^{message}"):
        train(config(), str(tmp_path / "run"), **parts)
    assert not (tmp_path / "run").exists()


CANNOT = "the network cannot be trained: "


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ("pair", r"the network must return logits \[B, 2\] and nothing else, got a tuple"),
        ("pair in training", r"the network must return logits \[B, 2\].*got a tuple"),
        ("dict", "the network must return logits.*got a dict"),
        ("classes", "the network must return logits that are floats, got int32"),
        ("mean", r"the network gives logits of shape \(1, 2\) for 16 images"),
        ("no parameters", f"{CANNOT}it has no parameters"),
        ("integers", f"{CANNOT}its parameter offset is int32, no float"),
        ("layers in training only", f"{CANNOT}ScopeParam.*model.apply.*train=True"),
        ("statistics in training only", f"{CANNOT}train=True changes the names.*BatchNorm_0"),
        ("BatchNorm without a mode", rf"{CANNOT}.*use_running_average.*called as model\.init\("),
        ("noise", f'{CANNOT}InvalidRngError: .*"noise".*rngs={{.dropout.: key}}'),
        ("dropout always", "the network cannot be evaluated: .*dropout.*train=False"),
        (
            "nothing said",
            rf"{CANNOT}AssertionError \(.*test_own_networks\.py, line \d+\); it was called",
        ),
    ],
)
def test_a_network_that_cannot_be_trained_is_one_message(tmp_path, does, message):
    refused(tmp_path, message, model=Net(does))


@pytest.mark.parametrize(
    ("does", "name"),
    [("float64 parameters", "params.Dense_0.bias"), ("float64 arithmetic", "logits")],
)
def test_a_network_in_float64_is_refused(tmp_path, x64, does, name):
    refused(tmp_path, f"{CANNOT}its {name} is float64, and the trainer computes", model=Net(does))


@pytest.mark.parametrize("model", [Convolution(), nn.Sequential([nn.Dense(2)]), nn.Dense(2)])
def test_a_network_without_train_is_told_how_it_is_called(tmp_path, model):
    message = rf"{CANNOT}TypeError: .*'train'; it was called as model.init\(key, images, train=F"
    refused(tmp_path, message, model=model)


def test_a_network_picked_by_name_is_checked_likewise(tmp_path):
    made = config(
        model={"name": "flax.linen:Dense", "features": 10},
        data={"name": "tests.train.own_parts:halves"},
    )
    with pytest.raises(UsageError, match=f"^{CANNOT}TypeError: .*'train'; it was called as"):
        train(made, str(tmp_path / "run"))


NO_FIT = r"the optimizer \(tx, or method and base\) does not fit the parameters of the network: "


def needs_more():
    """Its update must be given `momentum`."""

    def update(updates, state, params=None, *, momentum, **others):
        return updates, state

    return optax.GradientTransformationExtraArgs(lambda params: (), update)


@pytest.mark.parametrize(
    ("tx", "message"),
    [
        (optax.masked(optax.sgd(0.1), {"nope": True}), f"{NO_FIT}.*called as tx"),
        (sam(optax.sgd(0.1), mask={"nope": True}), f"{NO_FIT}.*called as tx"),
        (needs_more(), f"{NO_FIT}TypeError: .*'momentum'; it was called as tx.update"),
    ],
)
def test_an_optimizer_that_does_not_fit_the_network_is_one_message(tmp_path, tx, message):
    refused(tmp_path, message, tx=tx)


def test_a_mask_of_the_config_that_does_not_fit_is_one_message(tmp_path):
    for section in ("method", "base"):
        made = config(base={"name": "optax:adamw", "lr": 0.1}, method={"name": "sam"})
        made[section].mask = {"nope": True}
        with pytest.raises(UsageError, match=f"^{NO_FIT}"):
            train(made, str(tmp_path / "run"), dataset=halves(), model=Linear(2))
        assert not (tmp_path / "run/config.json").exists()


def test_optax_sam_is_refused_with_what_to_use_instead(tmp_path):
    for opaque in (False, True):
        tx = optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.1), opaque_mode=opaque)
        refused(tmp_path, r"optax\.contrib\.sam .* use vasso_jax\.optim\.sam", tx=tx)
    tx = optax.contrib.sam(optax.sgd(0.1), optax.chain(l2_ball(0.1)))
    refused(tmp_path, r"optax\.contrib\.sam", tx=optax.chain(optax.clip(1.0), tx))


@pytest.mark.parametrize(
    "tx",
    [
        optax.lbfgs(),
        optax.adam(optax.linear_schedule(0.1, 0.0, 9)),
        optax.inject_hyperparams(optax.sgd)(0.1),
        optax.contrib.reduce_on_plateau(),
        optax.polyak_sgd(),
        optax.partition({"a": optax.sgd(0.1), "b": sam(optax.sgd(0.1))}, {"Dense_0": "b"}),
    ],
)
def test_optimizers_of_every_kind_still_fit(tx):
    dataset = halves()
    experiment = check(config(), model=Net(), dataset=dataset, tx=tx).open(dataset)
    assert np.shape(experiment.program.abstract_state.params["Dense_0"]["kernel"]) == (16, 2)
