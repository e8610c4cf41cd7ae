"""VaSSO on several devices: four simulated CPU devices, in a mesh of two by two.

The optimizer needs no changes: parameters are split along the axis `model`, batches along `data`,
and VaSSO's average as the parameters. Prints the parts that one device holds, then the accuracy.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from vasso_jax.optim import value_and_update, vasso

EPOCHS, BATCH_SIZE = 12, 64
SPECS = {"w1": P(None, "model"), "b1": P("model"), "w2": P("model"), "b2": P()}


def apply(params, x):
    hidden = jax.nn.relu(x @ params["w1"] + params["b1"])
    # Both factors are split along what is summed over, so the result's sharding must be named.
    return jnp.dot(hidden, params["w2"], out_sharding=jax.typeof(x).sharding) + params["b2"]


def loss_fn(params, i, x, y):
    return optax.softmax_cross_entropy(apply(params, x), jax.nn.one_hot(y, 10)).mean()


def main():
    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x / 16, y, test_size=360, random_state=0)
    key1, key2 = jax.random.split(jax.random.key(0))
    w1, w2 = jax.random.normal(key1, (64, 128)) / 8, jax.random.normal(key2, (128, 10)) / 12
    params = {"w1": w1, "b1": jnp.zeros(128), "w2": w2, "b2": jnp.zeros(10)}

    mesh = jax.make_mesh((2, 2), ("data", "model"), devices=jax.devices("cpu")[:4])
    shardings = {name: NamedSharding(mesh, spec) for name, spec in SPECS.items()}
    params = jax.device_put(params, shardings)
    tx = vasso(optax.sgd(0.1, momentum=0.9), rho=0.05, theta=0.4)
    state = tx.init(params)

    @jax.jit(donate_argnums=(0, 1))
    def step(params, state, x, y):
        _, updates, state = value_and_update(loss_fn, tx)(params, state, x, y)
        return optax.apply_updates(params, updates), state

    rng = np.random.default_rng(0)
    for _ in range(EPOCHS):
        order = rng.permutation(len(x) // BATCH_SIZE * BATCH_SIZE)
        for rows in order.reshape(-1, BATCH_SIZE):
            batch = jax.device_put((x[rows], y[rows]), NamedSharding(mesh, P("data")))
            # Simulated devices share few threads: concurrent steps could wait for each other.
            params, state = jax.block_until_ready(step(params, state, *batch))

    for name, average in optax.tree.get(state, "direction").items():
        parts = [array.addressable_shards[0].data.shape for array in (params[name], average)]
        print(f"{name} {average.shape}: each device has {parts[0]}, and {parts[1]} of its average")
    x_test, y_test = jax.device_put((x_test, y_test), NamedSharding(mesh, P("data")))
    accuracy = float(jnp.mean(jax.jit(apply)(params, x_test).argmax(-1) == y_test))
    print(f"test accuracy {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 4)
    main()
