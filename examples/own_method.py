"""A perturbation of your own: VaSSO's direction in a ball of the maximum norm.

    python main.py --config=examples/own_method.py --config.method.rho=0.002

A perturbation is an optax transform from the clean gradient to eps. A method is a function of the
base optimizer and its own arguments, which are the fields of the section `method`. In a loop of
your own: tx = vasso_max_norm(optax.sgd(0.1)). From Python: train(config, workdir, tx=tx).
"""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from vasso_jax.optim import sharpness_aware, suppress_variance
from vasso_jax.train.presets import digits


def max_norm_ball(rho: float) -> optax.GradientTransformation:
    """eps = rho sign(d): every coordinate moves by rho."""
    return optax.stateless(lambda d, params: jax.tree.map(lambda x: rho * jnp.sign(x), d))


def vasso_max_norm(
    base: optax.GradientTransformation, rho: float = 1e-3, theta: float = 0.4
) -> optax.GradientTransformationExtraArgs:
    """Gives the base optimizer the gradient at w + rho sign(d), d the average of the gradients."""
    perturbation = optax.chain(suppress_variance(theta), max_norm_ball(rho))
    return optax.chain(sharpness_aware(perturbation), base)


def get_config() -> ConfigDict:
    config = digits("vasso")
    config.method = {"name": "examples.own_method:vasso_max_norm", "rho": 1e-3}
    return config
