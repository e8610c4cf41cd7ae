"""Momentum-SAM, WSAM and S2-SAM against 12 steps of their authors' PyTorch code on an MLP."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.optim.test_golden_trajectories import loss_fn
from vasso_jax import optim

FILES = sorted((pathlib.Path(__file__).parents[1] / "golden/others").glob("*.npz"))


def after_the_step(lr, decay):
    """Weight decay on the parameters that Adam has moved, as in Momentum-SAM's code."""
    return optax.stateless(lambda u, p: jax.tree.map(lambda u, p: u - lr * decay * (p + u), u, p))


def optimizer(config):
    lr, decay, rho = config["lr"], config["weight_decay"], config["rho"]
    if config["opt"] == "msam":
        if config["base"] == "sgd":  # with its decay in the loss, at w + eps
            return optim.momentum_sam(optax.sgd(lr, config["momentum"]), rho)
        return optim.momentum_sam(optax.chain(optax.adam(lr), after_the_step(lr, decay)), rho)
    if config["base"] == "sgd":
        base = optax.chain(optax.add_decayed_weights(decay), optax.sgd(lr, config["momentum"]))
    else:
        base = optax.adamw(lr, weight_decay=decay)
    if config["opt"] == "s2sam":
        return optim.sam(base, rho, refresh="descent")
    return optim.wsam(
        base, rho, gamma=config["gamma"], decoupled=config["decouple"], learning_rate=lr
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_float64(file, x64):
    golden = np.load(file)
    config = json.loads(str(golden["config"]))
    names = [key.removeprefix("init/") for key in golden.files if key.startswith("init/")]
    params = {name: jnp.asarray(golden[f"init/{name}"]) for name in names}
    tx, in_loss = optimizer(config), config["opt"] == "msam" and config["base"] == "sgd"
    state = tx.init(params)

    def loss_with_decay(params, i, x, y):
        loss = loss_fn(params, x, y)
        decay = config["weight_decay"] / 2 * optax.tree.norm(params, squared=True)
        return loss + decay if in_loss else loss, loss

    step = jax.jit(optim.value_and_update(loss_with_decay, tx, has_aux=True))
    # Momentum-SAM is exact; the others add 1e-12 to the norm of the gradient where we add 1e-7.
    tolerance = 1e-12 if config["opt"] == "msam" else 2e-7
    for t in range(len(golden["loss"])):
        passes, updates, state = step(params, state, golden["x"][t], golden["y"][t])
        params = optax.apply_updates(params, updates)
        first = passes.perturbed if config["opt"] == "msam" else passes.clean
        if config["opt"] != "s2sam":  # which has no clean pass
            np.testing.assert_allclose(first.aux, golden["loss"][t], atol=tolerance)
        for name in names:
            expected = golden[f"params/{name}"][t]
            np.testing.assert_allclose(params[name], expected, rtol=0, atol=tolerance)


def test_all_seven_are_there():
    assert len(FILES) == 7
