"""How much the loss grows at random perturbations of the parameters: E L(w + delta) - L(w).

The coordinates are those of `ball`: with c = 1, or |w| for each parameter in the adaptive measure.

Reference:
    Andriushchenko et al., A Modern Look at the Relationship between Sharpness and Generalization,
    ICML 2023, https://arxiv.org/abs/2302.07011
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from vasso_jax.sharpness import norms, trees
from vasso_jax.sharpness.checks import check_count, check_flags
from vasso_jax.sharpness.logits import normalized
from vasso_jax.sharpness.norms import Norm
from vasso_jax.sharpness.objective import Objective, Params
from vasso_jax.sharpness.perturbed import loss_at
from vasso_jax.sharpness.progress import Progress, counter


class AverageCase(NamedTuple):
    """The mean loss at random perturbations.

    Attributes:
        value: the mean loss increase, an estimate of E L(w + delta) - L(w).
        standard_error: of the value, from the spread over the samples; NaN for a single one.
        loss: L(w).
        increases: float [samples].
        norms: float [samples], ||delta / c||_p. In the L2 case it is near rho times the square root
            of the number of parameters: each of these has the standard deviation rho c.
        passes: how often the loss of the whole set was evaluated.
    """

    value: float
    standard_error: float
    loss: float
    increases: np.ndarray
    norms: np.ndarray
    passes: int


def average_case(
    objective: Objective,
    params: Params,
    radius: float,
    norm: Norm = "l2",
    *,
    adaptive: bool = False,
    normalize_logits: bool = False,
    samples: int = 100,
    seed: int = 0,
    progress: Progress | None = None,
) -> AverageCase:
    """The mean loss increase at random perturbations of the parameters.

        L2           delta ~ N(0, rho^2 diag(c^2))
        L-infinity   delta ~ U(-rho c, rho c)

    Args:
        objective, params, adaptive, normalize_logits: see `ball.worst_case`.
        radius: rho > 0, the size of the perturbation of each parameter.
        norm: "l2" or "linf".
        samples: number of perturbations, >= 1. All examples see the same ones.
        seed: of the perturbations.
        progress: called as `progress(done, expected)` after each evaluation of the loss.

    Raises:
        ValueError: an argument is out of range, or the parameters or the loss are not finite.
    """
    norms.check_ball(radius, norm)
    check_count("samples", samples)
    check_count("seed", seed, least=0)
    check_flags(adaptive=adaptive, normalize_logits=normalize_logits)
    objective = normalized(objective, params) if normalize_logits else objective
    report = counter(progress, 1 + samples)
    loss = float(objective.check_finite(params))
    report()
    losses, sizes = [], []
    for i in range(samples):
        key = jax.random.fold_in(jax.random.key(seed), i)
        z, size = _random(params, key, radius, norm)
        losses.append(loss_at(objective, params, z, radius, adaptive))
        sizes.append(float(size))
        report()
    increases = np.array(losses) - loss
    error = increases.std(ddof=1) / math.sqrt(samples) if samples > 1 else math.nan
    return AverageCase(increases.mean(), error, loss, increases, np.array(sizes), samples + 1)


@partial(jax.jit, static_argnames="norm")
def _random(params: Params, key: jax.Array, radius: float, norm: Norm) -> tuple[Params, jax.Array]:
    """A random perturbation in z, and its size."""
    z = trees.scaled(radius, norms.noise(key, params, norm))
    return z, norms.size(z, norm)
