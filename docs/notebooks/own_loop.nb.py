# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # VaSSO in your own loop
#
# A training loop needs few changes for a sharpness-aware optimizer. This notebook makes them in
# plain JAX, in Flax Linen with BatchNorm, and in Flax NNX. [The method](../method.md) has the
# equations, and [the optimizers](../optimizers.md#how-to-call-it) all ways to call them.
#
# Everything here runs on a CPU in seconds. The data are scikit-learn's 1,797 digits of 8 x 8
# pixels: enough to see that a loop works, and too few to rank methods.

# %% tags=["remove-cell"]
# On Colab, with a wheel of the package that was uploaded beside this notebook.
import glob
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("vasso_jax") is None:
    wheels = glob.glob("./vasso_jax-*.whl")
    assert wheels, "Upload a wheel of vasso_jax: python -m build --wheel makes it in a clone."
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, f"{wheels[0]}[train]"], check=True)

# %%
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from vasso_jax.optim import gsam, sam, value_and_update, vasso, vasso_asam

x, y = load_digits(return_X_y=True)
x, x_test, y, y_test = train_test_split(x / 16, y, test_size=360, random_state=0)


# %%
def batches(epochs, size=64, seed=0):
    """Rows of minibatches, in a new order in each epoch."""
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        yield from rng.permutation(len(x) // size * size).reshape(-1, size)


# %% [markdown]
# ## Plain JAX
#
# A small network, as two functions:


# %%
def init(key):
    key1, key2 = jax.random.split(key)
    w1, w2 = jax.random.normal(key1, (64, 128)) / 8, jax.random.normal(key2, (128, 10)) / 12
    return {"w1": w1, "b1": jnp.zeros(128), "w2": w2, "b2": jnp.zeros(10)}


def apply(params, x):
    hidden = jax.nn.relu(x @ params["w1"] + params["b1"])
    return hidden @ params["w2"] + params["b2"]


def loss_fn(params, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(apply(params, x), y).mean()


# %% [markdown]
# The step of optax would be `tx.update(grads, state, params)`. A sharpness-aware optimizer
# evaluates a second gradient, at perturbed parameters. So it is also given a function that
# computes gradients of the same minibatch. The argument `i` counts
# [microbatches](../optimizers.md#microbatches-and-m-sharpness), of which there is one here.

# %%
tx = vasso(optax.sgd(0.1, momentum=0.9), rho=0.05, theta=0.4)


@jax.jit
def step(params, state, x, y):
    def grad_fn(params, i):
        return jax.grad(loss_fn)(params, x, y)

    updates, state = tx.update(grad_fn(params, 0), state, params, grad_fn=grad_fn)
    return optax.apply_updates(params, updates), state


# %%
params = init(jax.random.key(0))
state = tx.init(params)
for rows in batches(epochs=10):
    params, state = step(params, state, x[rows], y[rows])
accuracy = jnp.mean(apply(params, x_test).argmax(-1) == y_test)
print(f"test accuracy {accuracy:.3f}")

# %% [markdown]
# The state is a pytree, as in optax. VaSSO's average of the gradients is in it, one array for each
# one of the parameters. This is the memory that VaSSO needs beyond that of the base optimizer.

# %%
average = optax.tree.get(state, "direction")
jax.tree.map(jnp.shape, average)

# %% [markdown]
# ## Flax Linen, with BatchNorm
#
# With `value_and_update`, the optimizer calls the loss itself, and returns the values and the aux
# of both passes. Here the aux is BatchNorm's running statistics.


# %%
class Network(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(128, use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        return nn.Dense(10)(x)


network = Network()


def linen_loss(params, i, stats, x, y):
    variables = {"params": params, "batch_stats": stats}
    logits, changed = network.apply(variables, x, train=True, mutable="batch_stats")
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
    return loss, changed["batch_stats"]


# %% [markdown]
# A step has two passes, the clean one at $w$ and the perturbed one at $w + \epsilon$. The network
# is evaluated at $w$ later, so the running statistics are those of the clean pass. `aux_or(stats)`
# keeps the old ones in a step without a clean pass, which
# [`refresh_every`](../optimizers.md#sam-at-the-price-of-sgd) makes.


# %%
@jax.jit
def linen_step(params, state, stats, x, y):
    both_passes = value_and_update(linen_loss, tx, has_aux=True)
    passes, updates, state = both_passes(params, state, stats, x, y)
    return optax.apply_updates(params, updates), state, passes.clean.aux_or(stats), passes


# %%
variables = network.init(jax.random.key(0), x[:1], train=False)
params, stats = variables["params"], variables["batch_stats"]
state, cosines = tx.init(params), []
for rows in batches(epochs=10):
    params, state, stats, passes = linen_step(params, state, stats, x[rows], y[rows])
    cosines.append(passes.cosine)
logits = network.apply({"params": params, "batch_stats": stats}, x_test, train=False)
print(f"test accuracy {jnp.mean(logits.argmax(-1) == y_test):.3f}")

# %% [markdown]
# `passes` says what the step did. The perturbation has the norm rho. Its cosine with the
# minibatch's gradient is 1 for SAM. VaSSO perturbs along an average, so that it is less, and
# differs from step to step.

# %%
print(f"loss at w {passes.clean.value:.4f}, at w + eps {passes.perturbed.value:.4f}")
print(f"norm of eps {passes.perturbation_norm:.3f}")
print(f"cosine, mean of the last 100 steps {np.mean(cosines[-100:]):.2f}")

# %% [markdown]
# ## Flax NNX
#
# NNX's modules hold their parameters. `nnx.split` separates these from all other state, which is
# the aux again: running statistics, and the generator of dropout. Both passes start from the same
# state, so they drop the same units.


# %%
class Module(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(64, 128, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(128, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.output = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        return self.output(self.dropout(nnx.relu(self.norm(self.hidden(x)))))


graph, params, rest = nnx.split(Module(nnx.Rngs(0)), nnx.Param, ...)


def nnx_loss(params, i, rest, x, y):
    module = nnx.merge(graph, params, rest, copy=True)  # the passes must not share `rest`
    loss = optax.softmax_cross_entropy_with_integer_labels(module(x), y).mean()
    return loss, nnx.state(module, nnx.Not(nnx.Param))


@jax.jit
def nnx_step(params, state, rest, x, y):
    both_passes = value_and_update(nnx_loss, tx, has_aux=True)
    passes, updates, state = both_passes(params, state, rest, x, y)
    return optax.apply_updates(params, updates), state, passes.clean.aux_or(rest)


# %%
state = tx.init(params)
for rows in batches(epochs=10):
    params, state, rest = nnx_step(params, state, rest, x[rows], y[rows])
module = nnx.merge(graph, params, rest)
module.eval()
print(f"test accuracy {jnp.mean(module(x_test).argmax(-1) == y_test):.3f}")

# %% [markdown]
# ## Another method
#
# All methods are called in the same way. Only the line that makes `tx` changes:

# %%
base = optax.adamw(1e-3)
tx = sam(base, rho=0.05)
tx = vasso_asam(base, rho=0.5, theta=0.4)
tx = gsam(base, rho=0.05, alpha=0.4)

# %% [markdown]
# [The optimizers](../optimizers.md#which-one-to-use) says which method when, and what each one
# costs. [Pitfalls](../optimizers.md#pitfalls) is worth reading before a loop has clipping, weight
# decay, or mixed precision.
