"""BAR in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests.optim.problems import assert_close
from vasso_jax import optim

LR, ALPHA = 0.1, 0.5


def factors(a=2.0, b=0.5):
    return {
        "layer": {"lora_a": a * jnp.ones((3, 2)), "lora_b": b * jnp.ones((2, 3)), "kernel": 7.0}
    }


def steps(tx, w, grads_of, count):
    state, update = tx.init(w), jax.jit(tx.update)
    for _ in range(count):
        updates, state = update(grads_of(w), state, w)
        w = optax.apply_updates(w, updates)
    return w["layer"]


def nothing(w):
    return jax.tree.map(jnp.zeros_like, w)


def test_without_gradients_by_norm_the_larger_factor_shrinks_geometrically():
    w = steps(optim.bar(optax.sgd(LR), LR, alpha=ALPHA, by="norm"), factors(), nothing, 10)
    np.testing.assert_allclose(w["lora_a"], 2.0 * (1 - ALPHA * LR) ** 10, rtol=1e-5)
    np.testing.assert_allclose(w["lora_b"], 0.5 * (1 + ALPHA * LR) ** 10, rtol=1e-5)
    assert w["kernel"] == 7


@pytest.mark.parametrize(("a", "b", "sign"), [(3.0, 1.0, 1), (1.0, 3.0, -1), (1.0, 1.0, 1)])
def test_by_gradient_the_factor_with_the_larger_one_grows(a, b, sign):
    w, grads = factors(1.0, 1.0), factors(a, b)
    found = steps(optim.bar(optax.sgd(LR), LR, alpha=ALPHA), w, lambda w: grads, 1)
    np.testing.assert_allclose(found["lora_a"], 1 + sign * ALPHA * LR - LR * a, rtol=1e-6)
    np.testing.assert_allclose(found["lora_b"], 1 - sign * ALPHA * LR - LR * b, rtol=1e-6)


def product(w):
    return jnp.sum((w["layer"]["lora_a"] @ w["layer"]["lora_b"] - 1) ** 2)


def imbalance(layer):
    return float(jnp.sum(layer["lora_a"] ** 2) - jnp.sum(layer["lora_b"] ** 2)) / 2


@pytest.mark.slow
@pytest.mark.parametrize("by", ["gradient", "norm"])
def test_a_product_is_balanced_while_sgd_keeps_its_imbalance(by):
    # Gradient descent on a product preserves the imbalance, but for the size of its steps.
    lr = 1e-3
    plain = steps(optax.sgd(lr), factors(), jax.grad(product), 200)
    ours = steps(optim.bar(optax.sgd(lr), lr, alpha=1.0, by=by), factors(), jax.grad(product), 200)
    start = imbalance(factors()["layer"])
    np.testing.assert_allclose(imbalance(plain), start, rtol=0.02)
    assert imbalance(ours) < 0.8 * start


def test_schedules_and_decay_see_what_is_balanced():
    # As in the paper: first the factors are scaled, then AdamW decays what came out.
    alpha = optax.linear_schedule(1.0, 0.0, 4)
    tx, w = optim.bar(optax.adamw(LR, weight_decay=0.1), LR, alpha=alpha, by="norm"), factors()
    ours = steps(tx, w, nothing, 3)
    a = 2.0
    for t in range(3):
        a *= (1 - LR * (1 - t / 4)) * (1 - LR * 0.1)
    np.testing.assert_allclose(ours["lora_a"], a, rtol=1e-5)


@pytest.mark.slow
def test_flax_lora_is_found():
    model = nnx.LoRA(3, 2, 4, rngs=nnx.Rngs(0))
    w = nnx.state(model)
    tx = optim.bar(optax.sgd(LR), LR, alpha=ALPHA, by="norm")
    updates, _ = tx.update(nothing(w), tx.init(w), w)
    # lora_b starts at zero, so lora_a is the larger.
    assert_close(updates["lora_a"], jax.tree.map(lambda x: -ALPHA * LR * x, w["lora_a"]), rtol=1e-5)


def test_what_is_no_pair_is_refused():
    with pytest.raises(ValueError, match="there are none"):
        optim.bar(optax.sgd(LR), LR).init({"kernel": jnp.ones(2)})
    with pytest.raises(ValueError, match="has no counterpart"):
        optim.bar(optax.sgd(LR), LR).init({"lora_a": jnp.ones(2)})
    with pytest.raises(ValueError, match="by must be 'gradient' or 'norm'"):
        optim.bar(optax.sgd(LR), LR, by="size")
