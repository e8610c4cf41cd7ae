"""VaSSO in ASAM's geometry with an Equinox model that classifies two moons.

Needs Equinox: pip install equinox. Shows that the optimizers accept Equinox's filtered models:
`eqx.partition` puts None where a leaf is not a parameter. The perturbation scales with the size of
the weights, but not with that of the biases. Prints the loss and the perturbation's norm every
fifth epoch, then the test accuracy.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import make_moons

from vasso_jax.optim import matrices, value_and_update, vasso_asam

EPOCHS, BATCH_SIZE = 20, 50


def main():
    x, y = make_moons(1500, noise=0.15, random_state=0)
    x, x_test, y, y_test = x[:1000], x[1000:], y[:1000], y[1000:]
    model = eqx.nn.MLP(2, "scalar", width_size=32, depth=2, key=jax.random.key(0))
    params, static = eqx.partition(model, eqx.is_inexact_array)
    tx = vasso_asam(optax.adam(3e-3), rho=0.5, theta=0.4, adapt=matrices)
    state = tx.init(params)

    def loss_fn(params, i, x, y):
        logits = jax.vmap(eqx.combine(params, static))(x)
        return optax.sigmoid_binary_cross_entropy(logits, y).mean()

    @jax.jit
    def step(params, state, x, y):
        passes, updates, state = value_and_update(loss_fn, tx)(params, state, x, y)
        return eqx.apply_updates(params, updates), state, passes

    rng = np.random.default_rng(0)
    for epoch in range(1, EPOCHS + 1):
        for rows in rng.permutation(len(x)).reshape(-1, BATCH_SIZE):
            params, state, passes = step(params, state, x[rows], y[rows])
        if epoch % 5 == 0:
            loss, norm = passes.clean.value, passes.perturbation_norm
            print(f"epoch {epoch:2}  loss {loss:.4f}  norm of the perturbation {norm:.3f}")

    logits = jax.vmap(eqx.combine(params, static))(x_test)
    accuracy = jnp.mean((logits > 0) == y_test)
    print(f"test accuracy {accuracy:.3f}")
    return float(accuracy)


if __name__ == "__main__":
    main()
