# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What the average does
#
# SAM perturbs the parameters along the gradient of a minibatch, which is the full gradient plus
# noise. VaSSO perturbs along an average of such gradients, so as to suppress that noise. This
# notebook measures how far both are from the full gradient: first at parameters that stay, then
# along a run. [The method](../method.md#vasso) has the equations, and
# [results](../results.md#does-the-average-suppress-variance) a larger study of this kind.
#
# The network is a perceptron on scikit-learn's 8 x 8 digits, on a CPU. The full gradient of a
# network this small can be computed at each step. It has no BatchNorm, with which a minibatch's
# gradient would be biased: the examples of a minibatch would depend on each other.

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
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits

from vasso_jax.optim import cosine, suppress_variance
from vasso_jax.sharpness import mean_loss, measure_directions, minibatch_gradients

THETAS = 0.9, 0.4, 0.2
SEED = 0
images, labels = load_digits(return_X_y=True)
data = {"x": np.float32(images / 16), "y": labels}


# %%
def init(key):
    key1, key2 = jax.random.split(key)
    w1, w2 = jax.random.normal(key1, (64, 32)) / 8, jax.random.normal(key2, (32, 10)) / 6
    return {"w1": w1, "b1": jnp.zeros(32), "w2": w2, "b2": jnp.zeros(10)}


def outputs(params, batch):
    return jnp.tanh(batch["x"] @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def losses(logits, batch):
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])


# %% [markdown]
# ## At parameters that stay
#
# `suppress_variance(theta)` is VaSSO's direction, an optax transform: $d_t = (1 - \theta) \,
# d_{t-1} + \theta \, g_t$. `measure_directions` feeds it with gradients of random minibatches, in
# several independent streams, and compares what comes out with the full gradient. The gradient
# itself, `optax.identity()`, is SAM's direction.

# %%
directions = {"SAM": optax.identity()}
directions |= {f"theta {theta}": suppress_variance(theta) for theta in THETAS}

objective = mean_loss(outputs, losses, data, batch_size=32)
params = init(jax.random.key(SEED))
at_rest = measure_directions(
    directions, minibatch_gradients(objective, params, streams=16, seed=SEED), steps=200
)["independent"]

# %% [markdown]
# Averages need some steps to settle, so the first 50 are left out. If each gradient has the
# variance $\sigma^2$, independent of the others, the average has $\sigma^2 \, \theta / (2 -
# \theta)$ in the long run.

# %%
variance = {name: float(errors.variance[50:].mean()) for name, errors in at_rest.items()}
for theta in THETAS:
    ratio = variance[f"theta {theta}"] / variance["SAM"]
    print(f"theta {theta}: {ratio:.2f} of SAM's variance, expected {theta / (2 - theta):.2f}")
    assert abs(ratio / (theta / (2 - theta)) - 1) < 0.25

# %% [markdown]
# ## Along a run
#
# In training, the parameters move, and an average of old gradients lags behind. Here SGD makes the
# steps, so that all directions are compared at the same parameters and fed with the same
# minibatches.

# %%
STEPS, BATCH_SIZE = 1500, 32
tx = optax.sgd(optax.linear_schedule(0.05, 0.0, STEPS), momentum=0.9)


def loss_fn(params, batch):
    return losses(outputs(params, batch), batch).mean()


def step(carry, key):
    params, state, averages = carry
    rows = jax.random.choice(key, len(labels), (BATCH_SIZE,))
    gradient = jax.grad(loss_fn)(params, jax.tree.map(lambda array: jnp.asarray(array)[rows], data))
    full = jax.grad(loss_fn)(params, data)
    measured = {}
    for name, direction in directions.items():
        d, averages[name] = direction.update(gradient, averages[name])
        error = optax.tree.norm(optax.tree.sub(d, full), squared=True)
        measured[name] = {"squared error": error, "cosine": cosine(d, full)}
    updates, state = tx.update(gradient, state, params)
    return (optax.apply_updates(params, updates), state, averages), measured


# %%
averages = {name: direction.init(params) for name, direction in directions.items()}
keys = jax.random.split(jax.random.key(SEED + 1), STEPS)
(params, _, _), along = jax.jit(lambda *carry: jax.lax.scan(step, carry, keys))(
    params, tx.init(params), averages
)
print(f"loss at the end {loss_fn(params, data):.3f}")


# %% [markdown]
# Single steps are noisy, so each point of the pictures is a mean over 50 steps. The cosine says
# whether a direction points where the full gradient does. SAM uses nothing else of it, as the
# perturbation has the length rho in any case.


# %%
def means(name, figure):
    return np.asarray(along[name][figure]).reshape(-1, 50).mean(axis=1)


middles = np.arange(25, STEPS, 50)
for name in directions:
    plt.plot(middles, means(name, "cosine"), label=name)
plt.xlabel("step")
plt.ylabel("cosine with the full gradient")
plt.legend()
plt.show()

# %% [markdown]
# The squared error, as a share of SAM's, can be compared with the value at rest, which is dotted.

# %%
for color, theta in zip(("C1", "C2", "C3"), THETAS, strict=True):
    share = means(f"theta {theta}", "squared error") / means("SAM", "squared error")
    plt.plot(middles, share, color=color, label=f"theta {theta}")
    plt.axhline(theta / (2 - theta), color=color, linestyle=":")
plt.ylim(0, 1)
plt.xlabel("step")
plt.ylabel("squared error, SAM's = 1")
plt.legend()
plt.show()

# %% [markdown]
# Two things can be read off it:
#
# - Once the parameters move slowly, the error is about that at rest: the smaller theta is, the
#   less noise is left.
# - In the first steps the gradient changes faster than a long average follows. There the error is
#   larger than at rest, most of all with the smallest theta. A larger learning rate has the same
#   effect, for longer.

# %%
first, last = {}, {}
for theta in THETAS:
    share = means(f"theta {theta}", "squared error") / means("SAM", "squared error")
    first[theta], last[theta] = share[0], share[-1]
    print(f"theta {theta}: {share[0]:.2f} in the first 50 steps, {share[-1]:.2f} in the last 50")
assert last[0.2] < last[0.4] < last[0.9] < 1
assert first[0.2] > last[0.2]

# %% [markdown]
# A small error is not all. The smallest theta has the smallest error late in the run, but need not
# have the largest cosine: where the full gradient itself changes its direction from step to step,
# an average takes that away together with the noise.

# %%
for name in directions:
    print(f"{name}: cosine {means(name, 'cosine').mean():.2f}, mean over the run")
assert means("theta 0.4", "cosine").mean() > means("SAM", "cosine").mean()

# %% [markdown]
# So the average does what it is made for. Whether a better direction makes a better network is
# another question, which this notebook does not answer. For the digits, [results](../results.md)
# has no sign of it.
