"""VaSSO with a Flax Linen network that has BatchNorm, on scikit-learn's 8x8 digits.

Shows `value_and_update` with aux: a step makes two passes, and the running statistics are taken
from the clean one, whose parameters are those evaluated later. Prints each epoch's last loss at w
and at w + eps (the difference is the sharpness), then the test accuracy.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from vasso_jax.optim import value_and_update, vasso

EPOCHS, BATCH_SIZE = 5, 64


class Network(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = x.reshape(-1, 8, 8, 1)
        for features in (16, 32):
            x = nn.Conv(features, (3, 3), strides=2, use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        return nn.Dense(10)(x.reshape(len(x), -1))


def main():
    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x / 16, y, test_size=360, random_state=0)
    network = Network()
    variables = network.init(jax.random.key(0), x[:1], train=False)
    params, stats = variables["params"], variables["batch_stats"]
    tx = vasso(optax.sgd(0.1, momentum=0.9), rho=0.1, theta=0.4)
    state = tx.init(params)

    def loss_fn(params, i, stats, x, y):
        variables = {"params": params, "batch_stats": stats}
        logits, changed = network.apply(variables, x, train=True, mutable="batch_stats")
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
        return loss, changed["batch_stats"]

    @jax.jit
    def step(params, state, stats, x, y):
        both_passes = value_and_update(loss_fn, tx, has_aux=True)
        passes, updates, state = both_passes(params, state, stats, x, y)
        # With refresh_every some steps have no clean pass: they keep the statistics. To use both
        # passes in turn, as VaSSO's authors do, see value_and_update's docstring.
        return optax.apply_updates(params, updates), state, passes.clean.aux_or(stats), passes

    rng = np.random.default_rng(0)
    for epoch in range(1, EPOCHS + 1):
        order = rng.permutation(len(x) // BATCH_SIZE * BATCH_SIZE)
        for rows in order.reshape(-1, BATCH_SIZE):
            params, state, stats, passes = step(params, state, stats, x[rows], y[rows])
        clean, perturbed = passes.clean.value, passes.perturbed.value
        print(f"epoch {epoch}  loss at w {clean:.3f}, at w + eps {perturbed:.3f}")

    logits = network.apply({"params": params, "batch_stats": stats}, x_test, train=False)
    accuracy = jnp.mean(logits.argmax(-1) == y_test)
    print(f"test accuracy {accuracy:.3f}")
    return float(accuracy)


if __name__ == "__main__":
    main()
