"""VaSSO around SGD in plain JAX: a small network learns scikit-learn's 8x8 digits.

Shows the calling convention: besides the clean gradient, `update` gets a function that computes
the minibatch's gradient at other parameters. Prints, every fifth epoch, the last minibatch's loss
and the cosine between its gradient and the averaged direction (1 for SAM); then the test accuracy.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from vasso_jax.optim import vasso

EPOCHS, BATCH_SIZE = 20, 64


def init(key):
    key1, key2 = jax.random.split(key)
    w1, w2 = jax.random.normal(key1, (64, 128)) / 8, jax.random.normal(key2, (128, 10)) / 12
    return {"w1": w1, "b1": jnp.zeros(128), "w2": w2, "b2": jnp.zeros(10)}


def apply(params, x):
    hidden = jax.nn.relu(x @ params["w1"] + params["b1"])
    return hidden @ params["w2"] + params["b2"]


def loss_fn(params, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(apply(params, x), y).mean()


def main():
    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x / 16, y, test_size=360, random_state=0)
    params = init(jax.random.key(0))
    tx = vasso(optax.sgd(0.1, momentum=0.9), rho=0.05, theta=0.4)
    state = tx.init(params)

    @jax.jit
    def step(params, state, x, y):
        def grad_fn(params, i):  # i is the microbatch index; here there is only one
            return jax.grad(loss_fn)(params, x, y)

        loss, grads = jax.value_and_grad(loss_fn)(params, x, y)
        updates, state = tx.update(grads, state, params, grad_fn=grad_fn)
        d = optax.tree.get(state, "direction")
        cosine = optax.tree.vdot(grads, d) / (optax.tree.norm(grads) * optax.tree.norm(d))
        return optax.apply_updates(params, updates), state, loss, cosine

    rng = np.random.default_rng(0)
    for epoch in range(1, EPOCHS + 1):
        order = rng.permutation(len(x) // BATCH_SIZE * BATCH_SIZE)
        for rows in order.reshape(-1, BATCH_SIZE):
            params, state, loss, cosine = step(params, state, x[rows], y[rows])
        if epoch % 5 == 0:
            print(f"epoch {epoch:2}  loss {loss:.4f}  cosine {cosine:.2f}")

    accuracy = jnp.mean(apply(params, x_test).argmax(-1) == y_test)
    print(f"test accuracy {accuracy:.3f}")
    return float(accuracy)


if __name__ == "__main__":
    main()
