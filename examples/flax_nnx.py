"""VaSSO with GSAM's descent and a Flax NNX module that has BatchNorm and dropout (8x8 digits).

Shows NNX's functional style: `nnx.split` separates the parameters from all other state, here
running statistics and the dropout generator. Both passes of a step start from the same state, so
they drop the same units; the state after the clean pass is kept. Rho falls with the learning rate.
Prints the clean loss every other epoch, then the test accuracy.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from vasso_jax.optim import rho_tied_to_lr, value_and_update, vasso_gsam

EPOCHS, BATCH_SIZE = 10, 64


class Network(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(64, 128, rngs=rngs)
        self.norm = nnx.BatchNorm(128, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.output = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        return self.output(self.dropout(nnx.relu(self.norm(self.hidden(x)))))


def main():
    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x / 16, y, test_size=360, random_state=0)
    graph, params, rest = nnx.split(Network(nnx.Rngs(0)), nnx.Param, ...)
    lr = optax.cosine_decay_schedule(0.1, EPOCHS * (len(x) // BATCH_SIZE))
    rho = rho_tied_to_lr(lr, rho_max=0.1, rho_min=0.02, lr_max=0.1)
    tx = vasso_gsam(optax.sgd(lr, momentum=0.9), rho, theta=0.4, alpha=0.2)
    state = tx.init(params)

    def loss_fn(params, i, rest, x, y):
        network = nnx.merge(graph, params, rest, copy=True)  # the passes must not share `rest`
        loss = optax.softmax_cross_entropy_with_integer_labels(network(x), y).mean()
        return loss, nnx.state(network, nnx.Not(nnx.Param))

    @jax.jit
    def step(params, state, rest, x, y):
        both_passes = value_and_update(loss_fn, tx, has_aux=True)
        passes, updates, state = both_passes(params, state, rest, x, y)
        return optax.apply_updates(params, updates), state, passes.clean.aux, passes.clean.value

    rng = np.random.default_rng(0)
    for epoch in range(1, EPOCHS + 1):
        order = rng.permutation(len(x) // BATCH_SIZE * BATCH_SIZE)
        for rows in order.reshape(-1, BATCH_SIZE):
            params, state, rest, loss = step(params, state, rest, x[rows], y[rows])
        if epoch % 2 == 0:
            print(f"epoch {epoch:2}  loss {loss:.4f}")

    network = nnx.merge(graph, params, rest)
    network.eval()
    accuracy = jnp.mean(network(x_test).argmax(-1) == y_test)
    print(f"test accuracy {accuracy:.3f}")
    return float(accuracy)


if __name__ == "__main__":
    main()
