# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A language model with late SAM
#
# SAM evaluates two gradients per step. Late in training a few epochs of it do most of the work
# ([arXiv 2410.10373](https://arxiv.org/abs/2410.10373)), which costs much less. This notebook
# trains a small transformer three times: by AdamW, by AdamW with SAM in the last fifth of the
# steps, and with SAM in all of them. Then it compares what they cost, the held-out loss, and the
# sharpness.
#
# The model learns to write Python, character by character, from a module of the standard library.
# It has about 20,000 parameters, and trains for seconds on a CPU: this shows how a window of SAM
# is set and what it costs, and no more. [SAM at the price of
# SGD](../optimizers.md#sam-at-the-price-of-sgd) describes the other ways to save evaluations.

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
import argparse
import inspect

import flax.linen as nn
import jax
import matplotlib.pyplot as plt
import numpy as np
import optax

from vasso_jax.optim import sam, value_and_update
from vasso_jax.sharpness import first_order, mean_loss

SEED = 0
STEPS, BATCH_SIZE, CONTEXT, WIDTH = 250, 16, 32, 32

# %% [markdown]
# ## Text and model
#
# The last tenth of the text is held out.

# %%
vocabulary, tokens = np.unique(list(inspect.getsource(argparse)), return_inverse=True)
text, held_out = np.split(tokens, [len(tokens) * 9 // 10])
window = np.arange(CONTEXT + 1)


def parts(text):
    """All stretches of text that do not overlap, [N, CONTEXT + 1]."""
    return text[np.arange(0, len(text) - CONTEXT, CONTEXT)[:, None] + window]


print(f"{len(tokens)} characters, {len(vocabulary)} different ones")


# %%
class Transformer(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(len(vocabulary), WIDTH)(tokens)
        x += self.param("positions", nn.initializers.normal(0.1), (CONTEXT, WIDTH))
        mask = nn.make_causal_mask(tokens)
        x += nn.MultiHeadAttention(num_heads=2, use_bias=False)(nn.LayerNorm()(x), mask=mask)
        x += nn.Dense(WIDTH)(nn.gelu(nn.Dense(4 * WIDTH)(nn.LayerNorm()(x))))
        return nn.Dense(len(vocabulary))(nn.LayerNorm()(x))


model = Transformer()


def outputs(params, tokens):
    return model.apply(params, tokens[:, :-1])


def losses(logits, tokens):
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean(axis=-1)


@jax.jit
def loss_fn(params, i, tokens):
    return losses(outputs(params, tokens), tokens).mean()


# %% [markdown]
# ## Three optimizers
#
# `active=(start, end)` are the steps that are perturbed; they count from 0, and None is no end.
# Outside of the window a step is that of AdamW, with one evaluation.

# %%
base = optax.adamw(optax.linear_schedule(1e-2, 0.0, STEPS))
optimizers = {
    "AdamW": base,
    "late SAM": sam(base, rho=0.1, active=(STEPS * 4 // 5, None)),
    "SAM": sam(base, rho=0.1),
}

# %% [markdown]
# `value_and_update` calls the loss only when the optimizer asks for it, and says which passes were
# taken. So the gradient evaluations can be counted where they are made.


# %%
def trained(tx):
    """The parameters at the end, and for each step its loss and its gradient evaluations."""

    @jax.jit
    def step(params, state, tokens):
        passes, updates, state = value_and_update(loss_fn, tx)(params, state, tokens)
        evaluations = passes.clean.taken.astype(int) + passes.perturbed.taken
        return optax.apply_updates(params, updates), state, passes.first.value, evaluations

    rng = np.random.default_rng(SEED)
    params = jax.jit(model.init)(jax.random.key(SEED), text[None, :CONTEXT])
    state, history = tx.init(params), []
    for _ in range(STEPS):
        starts = rng.integers(len(text) - CONTEXT, size=(BATCH_SIZE, 1))
        params, state, *figures = step(params, state, text[starts + window])
        history.append(figures)
    return params, np.array(history).T


# %%
params, values, evaluations = {}, {}, {}
for name, tx in optimizers.items():
    params[name], (values[name], evaluations[name]) = trained(tx)

# %% [markdown]
# ## What it costs

# %%
for name, counts in evaluations.items():
    print(f"{name}: {int(counts.sum())} evaluations, {counts.mean():.1f} per step")
assert evaluations["late SAM"].sum() == 1.2 * STEPS

# %% [markdown]
# A fair picture has the evaluations as its horizontal axis, not the steps. The curve of late SAM
# is that of AdamW until its window begins. Each point is a mean over 10 steps.

# %%
for name in optimizers:
    spent = evaluations[name].cumsum().reshape(-1, 10)[:, -1]
    plt.plot(spent, values[name].reshape(-1, 10).mean(axis=1), label=name)
plt.xlabel("gradient evaluations")
plt.ylabel("training loss, nats per character")
plt.legend()
plt.show()

# %% [markdown]
# ## What it does
#
# The sharpness here is the increase of the training loss at SAM's perturbation, by the gradient of
# 512 stretches of text. It is measured at the end of each run, for one distance.

# %%
data = parts(text)[:512]
objective = mean_loss(outputs, losses, data, batch_size=128)
sharpness = {name: first_order(objective, params[name], 0.1).value for name in params}
for name in optimizers:
    loss = loss_fn(params[name], 0, parts(held_out))
    print(f"{name}: held-out loss {loss:.2f}, sharpness {sharpness[name]:.3f}")

# %% [markdown]
# SAM in all steps ends flatter than AdamW, and with a higher held-out loss after as many steps: in
# so short a run, the parameters are still on their way, and steps along the gradient at $w +
# \epsilon$ are slower. Late SAM has about the held-out loss of AdamW. What it has of SAM's
# flatness differs from seed to seed, between nothing and most of it.

# %%
assert sharpness["SAM"] < sharpness["AdamW"]

# %% [markdown]
# Which window pays off for a real model is a question for its own validation loss. In the trainer,
# the window is set in epochs: `--config.window.start_epoch=175` (see [the
# configs](../training.md#configs)). For the digits,
# [results](../results.md#how-much-accuracy-for-how-much-compute) compares a late window with other
# ways to save evaluations; none of them was better than the base optimizer.
