"""The public recipes against 12-step trajectories of the authors' PyTorch optimizers on an MLP."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vasso_jax.optim import sam, vasso

FILES = sorted((pathlib.Path(__file__).parents[1] / "golden/trajectories").glob("*.npz"))


def loss_fn(params, x, y):
    hidden = jnp.tanh(x @ params["w1"] + params["b1"])
    logits = hidden @ params["w2"] + params["b2"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def optimizer(config):
    decay = config["weight_decay"]
    if config["base"] == "sgd":
        base = optax.chain(
            optax.add_decayed_weights(decay),
            optax.sgd(config["lr"], config["momentum"] or None, config.get("nesterov", False)),
        )
    else:
        base = optax.adamw(config["lr"], weight_decay=decay)
    if config["opt"] == "none":
        return optax.with_extra_args_support(base)
    if config["opt"] == "sam":
        return sam(base, config["rho"])
    return vasso(base, config["rho"], config["theta"])


def max_errors(file, dtype):
    """Largest absolute error of loss, parameters and EMA over the trajectory in `file`."""
    golden = np.load(file)
    config = json.loads(str(golden["config"]))
    names = [key.removeprefix("init/") for key in golden.files if key.startswith("init/")]
    params = {name: jnp.asarray(golden[f"init/{name}"], dtype) for name in names}
    tx = optimizer(config)
    state = tx.init(params)

    @jax.jit
    def step(params, state, x, y):
        loss, grads = jax.value_and_grad(loss_fn)(params, x, y)
        updates, state = tx.update(
            grads, state, params, grad_fn=lambda p, i: jax.grad(loss_fn)(p, x, y)
        )
        return optax.apply_updates(params, updates), state, loss

    errors = {"loss": 0.0, "params": 0.0, "ema": 0.0}
    for t in range(len(golden["loss"])):
        x, y = jnp.asarray(golden["x"][t], dtype), jnp.asarray(golden["y"][t])
        params, state, loss = step(params, state, x, y)
        errors["loss"] = max(errors["loss"], float(abs(loss - golden["loss"][t])))
        for name in names:
            error = float(np.abs(np.asarray(params[name]) - golden[f"params/{name}"][t]).max())
            errors["params"] = max(errors["params"], error)
            if config["opt"] == "vasso":
                ema = np.asarray(optax.tree.get(state, "direction")[name])
                error = float(np.abs(ema - golden[f"ema/{name}"][t]).max())
                errors["ema"] = max(errors["ema"], error)
    return errors


def test_all_nine_are_there():
    assert len(FILES) == 9


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_float64(file, x64):
    assert max(max_errors(file, jnp.float64).values()) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_float32(file):
    assert max(max_errors(file, jnp.float32).values()) < 1e-5
