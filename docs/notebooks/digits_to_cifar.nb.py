# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From the digits to CIFAR
#
# The trainer runs an experiment from a config to its last checkpoint. This notebook uses it from
# Python: it trains a network on the digits by VaSSO and by SGD, compares the two runs, and
# predicts with one of them. At the end it shows what changes for CIFAR-10.
# [Training](../training.md) describes all settings.
#
# scikit-learn's 1,797 digits are small enough for a CPU. Their 359 test images do not rank
# methods.

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
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from vasso_jax import load_run
from vasso_jax.runs import RunFolder, flatten, of_split
from vasso_jax.train import check, default_config, train
from vasso_jax.train.presets import cifar

# %% [markdown]
# ## A config
#
# A config begins as `default_config()`, which is VaSSO around SGD on the digits. A section, such
# as `method`, holds a name and the arguments of what it stands for.


# %%
def digits(method):
    config = default_config()
    config.method = method
    config.base.lr = 0.1
    config.epochs = 20
    config.model = {}  # the network is given as an object
    return config


vasso = digits({"name": "vasso", "rho": 0.1, "theta": 0.4})
sgd = digits({"name": "none"})

# %% [markdown]
# The network of the digits' own config, a small wide ResNet, takes about a minute. This one takes
# seconds. It is a Flax module that is called as `(images, train)`.


# %%
class Network(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x, train):
        hidden = nn.relu(nn.Dense(64)(x.reshape(len(x), -1)))
        return nn.Dense(self.num_classes)(hidden)


# %% [markdown]
# `check` finds every mistake that can be found without data, before any time is spent.

# %%
print(check(vasso, model=Network()).optimizer_summary)
wrong = digits({"name": "sam", "theta": 0.4})
try:
    check(wrong, model=Network())
except ValueError as error:
    print(f"refused: {error}")

# %% [markdown]
# ## Training
#
# The second argument is the run folder. It holds the settings, the records and the checkpoints,
# and the same call resumes a run that was stopped. Training prints a line for each epoch and a
# table at the end.

# %% tags=["hide-output"]
result = train(vasso, "runs/vasso", model=Network())

# %% tags=["hide-output"]
baseline = train(sgd, "runs/sgd", model=Network())

# %%
for name, made in {"VaSSO": result, "SGD": baseline}.items():
    print(f"{name}: test accuracy {made['test_top1']:.1%}, test loss {made['test_loss']:.3f}")

# %% [markdown]
# One image is 0.28 points, and another seed changes more than that. A comparison needs several
# seeds, and intervals: `vasso-jax sweep` makes the runs, and [`vasso-jax
# compare`](../comparing.md) the tables.
#
# ## The records
#
# Each epoch has a record for each split. VaSSO's also say what the perturbation did.

# %%
for name, folder in {"VaSSO": "runs/vasso", "SGD": "runs/sgd"}.items():
    tested = of_split(RunFolder(folder).records(), "test")
    epochs = [record["epoch"] for record in tested]
    plt.plot(epochs, [record["loss"] for record in tested], label=name)
plt.yscale("log")
plt.xlabel("epoch")
plt.ylabel("test loss")
plt.legend()
plt.show()

# %%
last = of_split(RunFolder("runs/vasso").records(), "train")[-1]
for figure in ("perturbation_norm", "norm_over_rho", "cosine", "loss_increase"):
    print(f"{figure}: {last[figure]:.3f}")

# %% [markdown]
# [Did it do anything?](../training.md#did-it-do-anything) says what these figures are, and which
# values are a bad sign.
#
# ## Predicting
#
# `load_run` gives the network, its weights, and `predict`, which takes uint8 images and returns
# the probabilities of the classes.

# %%
run = load_run("runs/vasso", model=Network())
images = np.uint8(np.round(load_digits().images[:5, :, :, None] * 255 / 16))
probabilities = run.predict(images)

figure, axes = plt.subplots(1, 5, figsize=(5, 1.5))
for axis, image, row in zip(axes, images, probabilities, strict=True):
    axis.imshow(image[:, :, 0], cmap="gray")
    axis.set_title(f"{run.class_names[row.argmax()]}: {row.max():.0%}")
    axis.set_axis_off()
plt.show()

# %% [markdown]
# Most of these images are among those that the network was trained on. [Using a
# run](../using_a_run.md) has the command for image files, and how to export a run.
#
# ## What changes for CIFAR-10
#
# The experiments of the VaSSO paper are presets. These are the settings of ResNet-18 on CIFAR-10
# that differ from those above:

# %%
paper = cifar("cifar10", "resnet18", "vasso")
small, large = flatten(vasso.to_dict()), flatten(paper.to_dict())
for field in sorted(large):
    if field not in small:
        print(f"{field}: {large[field]}")
    elif small[field] != large[field]:
        print(f"{field}: {small[field]} -> {large[field]}")

# %%
print(check(paper).optimizer_summary)

# %% [markdown]
# This is not run here: it is 200 epochs of a ResNet-18, for a GPU. On a machine with one,
#
# ```python
# train(paper, "runs/cifar10")
# ```
#
# or, from the command line, `vasso-jax train --config=cifar10_resnet18:vasso`, downloads CIFAR-10
# at the first start and trains. What to expect, and from whom, is in [the recipes](../recipes.md):
# in the chart of VaSSO's authors SGD has 96.25 % and VaSSO 96.78 %, each at its best epoch. No run
# of this package has been made to the end there.
