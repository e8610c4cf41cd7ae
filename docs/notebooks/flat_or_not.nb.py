# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Flat or not
#
# SAM looks for flat minima. This notebook trains one network by SGD and by SAM, and measures how
# flat the minima are that they end in. [Sharpness, measured](../sharpness.md) describes all
# measures, and [results](../results.md#does-vasso-end-in-flatter-minima) has a study with several
# methods, radii and seeds.
#
# The data are scikit-learn's 1,797 digits, and the network has one hidden layer, so that all of
# this takes seconds on a CPU. It is about how to measure. What holds for a large network on
# natural images has to be measured there.

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
import matplotlib.pyplot as plt
import numpy as np

from vasso_jax import load_run
from vasso_jax.measurement import Hessian, Trace, measure, objective
from vasso_jax.sharpness import eigenvalues, filter_normalized, hessian, line, worst_case
from vasso_jax.train import default_config, train

SEED = 0
METHODS = {"SGD": {"name": "none"}, "SAM": {"name": "sam", "rho": 0.1}}


# %% [markdown]
# ## Two runs
#
# The [trainer](../training.md) takes a network as an object. Both runs have the same settings but
# for the method. SAM evaluates two gradients per step, so its run costs about twice as much.


# %%
class Network(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x, train):
        hidden = nn.relu(nn.Dense(64)(x.reshape(len(x), -1)))
        return nn.Dense(self.num_classes)(hidden)


# %% tags=["hide-output"]
results = {}
for name, method in METHODS.items():
    config = default_config()
    config.method = method
    config.model = {}
    config.base.lr = 0.1
    config.epochs = 30
    config.seed = SEED
    results[name] = train(config, f"runs/{name}", model=Network())

# %% [markdown]
# ## The largest eigenvalue, and the trace
#
# The Hessian of the training loss has an eigenvalue for each parameter. The largest one,
# $\lambda_1$, is the curvature in the sharpest direction; the trace is the sum of all. Neither
# needs the matrix: both are computed from products with vectors. `measure` writes them into the
# run folders too.

# %%
runs = {name: load_run(f"runs/{name}", model=Network()) for name in METHODS}
lambdas, traces = {}, {}
for name, run in runs.items():
    largest, total = measure(run, [Hessian(largest=1), Trace(samples=50)])
    lambdas[name], traces[name] = largest.figures["lambda_1"], total.figures["trace"]
    accuracy = results[name]["test_top1"]
    print(
        f"{name}: lambda_1 {lambdas[name]:.2f}, trace {traces[name]:.1f}, "
        f"test accuracy {accuracy:.1%}"
    )

# %% [markdown]
# By both figures, SAM's minimum is the flatter one. For this network that is no accident of one
# seed:

# %%
assert lambdas["SAM"] < 0.8 * lambdas["SGD"]
assert traces["SAM"] < 0.8 * traces["SGD"]

# %% [markdown]
# The test accuracies do not have to follow. They are those of 359 images, of which one is 0.28
# points: a difference of a few images says nothing.
#
# ## A slice
#
# A picture of the loss along one random direction shows the width of a minimum. The direction is
# scaled to the filters of each network, so that networks with larger weights do not look flatter
# than they are. Both use the same random numbers.

# %%
x = np.linspace(-1, 1, 41)
for name, run in runs.items():
    loss, params = objective(run)
    slice_ = line(loss, params, filter_normalized(params, seed=0), x)
    plt.plot(slice_.x, slice_.losses, label=name)
plt.xlabel("position, filter-normalised")
plt.ylabel("training loss")
plt.legend()
plt.show()

# %% [markdown]
# A slice shows one of thousands of directions, and the two minima differ less in it than by
# $\lambda_1$: a random direction has only a small part in the sharpest ones. So a picture like
# this is an illustration, and no measurement.
#
# ## What sharpness does not say
#
# Sharpness does not predict generalisation by itself ([arXiv
# 2302.07011](https://arxiv.org/abs/2302.07011)). One reason is easy to see: the same function can
# have sharp and flat parameters. Multiply the hidden layer of SGD's network by 3 and divide the
# last kernel by 3. With ReLU, the network computes exactly what it did before.

# %%
loss, params = objective(runs["SGD"])
hidden, last = params["Dense_0"], params["Dense_1"]
rescaled = {
    "Dense_0": jax.tree.map(lambda w: 3 * w, hidden),
    "Dense_1": {"kernel": last["kernel"] / 3, "bias": last["bias"]},
}
for name, point in {"as trained": params, "rescaled": rescaled}.items():
    sharpest = eigenvalues(hessian(loss, point), largest=1).values[0]
    print(f"{name}: loss {loss.value(point):.4f}, lambda_1 {sharpest:.2f}")
assert jnp.allclose(loss.value(params), loss.value(rescaled), rtol=1e-4)

# %% [markdown]
# So compare runs of one network on one data set, trained alike, and show the test error beside the
# sharpness. Some measures are not changed by rescaling: `worst_case` with `adaptive=True` is [one
# of them](../sharpness.md#in-a-ball).

# %%
for name, point in {"as trained": params, "rescaled": rescaled}.items():
    print(f"{name}: {worst_case(loss, point, 0.25, adaptive=True).value:.4f}")

# %% [markdown]
# For runs that exist already, `vasso-jax sharpness RUN RUN ...` makes [a table of such
# figures](../sharpness.md#of-runs).
