"""How much the loss grows within a ball around the parameters: at most, and along SAM.

    worst case     max over ||delta / c||_p <= rho of L(w + delta) - L(w)
    first order    L(w + SAM's perturbation) - L(w)

c is 1, or |w| for each parameter in the adaptive measures, which then no longer depend on how the
layers of a network share a common scale. All of it is done in the coordinates z = delta / c, where
the ball is a ball in either case; a parameter that is 0 stays so in the adaptive measures.

References:
    Andriushchenko et al., A Modern Look at the Relationship between Sharpness and Generalization,
    ICML 2023, https://arxiv.org/abs/2302.07011
    Croce and Hein, Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
    Parameter-free Attacks, ICML 2020, algorithm 1 (APGD), https://arxiv.org/abs/2003.01690
    Foret et al., Sharpness-Aware Minimization, ICLR 2021, https://arxiv.org/abs/2010.01412
    Kwon et al., ASAM, ICML 2021, https://arxiv.org/abs/2102.11600
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vasso_jax.sharpness import norms, trees
from vasso_jax.sharpness.ascent import Ascent, ascend
from vasso_jax.sharpness.checks import check_count, check_flags
from vasso_jax.sharpness.logits import normalized
from vasso_jax.sharpness.norms import Norm
from vasso_jax.sharpness.objective import Objective, Params
from vasso_jax.sharpness.perturbed import checked_slope, evaluate, loss_at
from vasso_jax.sharpness.progress import Progress, counter


class WorstCase(NamedTuple):
    """The largest loss that was found in a ball.

    Attributes:
        value: the loss increase, L(w + delta) - L(w). With `per_batch` the mean over the batches,
            each with its own delta.
        loss: L(w).
        losses: float [M, steps + 1], the largest loss that was found, at the parameters and after
            each step of the ascent: of the whole set, M = 1, or of each batch.
        norm: ||delta / c||_p of the delta that was found; with `per_batch` the largest.
        passes: how often the loss of the whole set was evaluated; the first one is a check.
        random_starts: how many of the M ascents began at a random point: with a seed all of them,
            without one those for which the gradient at the parameters is zero.
    """

    value: float
    loss: float
    losses: np.ndarray
    norm: float
    passes: int
    random_starts: int


class FirstOrder(NamedTuple):
    """The loss at SAM's perturbation.

    Attributes:
        value: the loss increase there; with `per_batch` the mean over the batches.
        prediction: what a linear loss would grow by: rho ||c grad||, in the dual norm.
        loss: L(w).
        norm: ||delta / c||_p; 0 where the gradient is. With `per_batch` the largest.
        passes: how often the loss of the whole set was evaluated; the first one is a check.
    """

    value: float
    prediction: float
    loss: float
    norm: float
    passes: int


def worst_case(
    objective: Objective,
    params: Params,
    radius: float,
    norm: Norm = "l2",
    *,
    adaptive: bool = False,
    normalize_logits: bool = False,
    per_batch: bool = False,
    steps: int = 20,
    seed: int | None = None,
    progress: Progress | None = None,
) -> WorstCase:
    """The largest loss increase in a ball around the parameters, by projected gradient ascent.

    The ascent is APGD: steps along the gradient (its signs, in the L-infinity case) of length
    2 rho at first, with momentum, which are halved and taken up again from the best point where
    they no longer help. The first one ends at SAM's perturbation, so that the value is at least
    that of `first_order`. One compiled program serves all radii and numbers of steps.

    Args:
        objective: the loss.
        params: w, pytree of arrays, float32 or float64.
        radius: rho > 0, in units of the parameters, or relative to their size where `adaptive`.
        norm: "l2", one norm over all parameters, or "linf".
        adaptive: whether the ball is `||delta / |w| || <= rho`, elementwise; else that of
            `||delta|| <= rho`.
        normalize_logits: whether the outputs of each example are centred and divided by their
            L2 norm before the loss is taken, so that the scale of the last layer has no effect.
        per_batch: whether each batch of the objective has a perturbation of its own:
            m-sharpness, where m is the size of the batches. Its maximum is at least that of the
            whole set; the lower bounds that are found need not be.
        steps: of the ascent, >= 1.
        seed: of a random start (L2: on the sphere; L-infinity: anywhere in the ball); None: the
            ascent starts at the parameters. If the gradient there is zero, its first step then
            leads to a random point, always the same one.
        progress: called as `progress(done, expected)` after each evaluation of the loss; of one
            batch where `per_batch`.

    Raises:
        ValueError: an argument is out of range; the parameters are neither float32 nor float64;
            or they, or the loss there or on the way, are not finite.

    Returns:
        A lower bound of the maximum, which no method is sure to find.
    """
    norms.check_ball(radius, norm)
    check_count("steps", steps)
    if seed is not None:
        check_count("seed", seed, least=0)
    check_flags(adaptive=adaptive, normalize_logits=normalize_logits, per_batch=per_batch)
    objective = normalized(objective, params) if normalize_logits else objective
    passes = steps + 1 + (seed is not None)
    report = counter(progress, 1 + passes * _number(objective, per_batch))
    objective.check_finite(params)
    report()
    found: list[Ascent] = []
    for i, part in enumerate(_parts(objective, per_batch)):
        ascent = ascend(
            part,
            params,
            radius,
            norm,
            adaptive=adaptive,
            steps=steps,
            key=jax.random.fold_in(jax.random.key(seed or 0), i),
            random_start=seed is not None,
            report=report,
        )
        found.append(ascent)
    losses = np.array([one.losses for one in found])
    mean = np.average(losses, axis=0, weights=_examples(objective, per_batch))
    return WorstCase(
        value=mean[-1] - mean[0],
        loss=mean[0],
        losses=losses,
        norm=max(one.size for one in found),
        passes=passes + 1,
        random_starts=sum(one.random_start for one in found),
    )


def first_order(
    objective: Objective,
    params: Params,
    radius: float,
    norm: Norm = "l2",
    *,
    adaptive: bool = False,
    normalize_logits: bool = False,
    per_batch: bool = False,
    progress: Progress | None = None,
) -> FirstOrder:
    """The loss increase at SAM's perturbation, and what the gradient alone predicts.

        L2           delta = rho c^2 g / ||c g||    SAM; where `adaptive` ASAM, with its eta = 0
        L-infinity   delta = rho c sign(g)

    Args:
        objective, params, radius, norm, adaptive, normalize_logits, per_batch, progress: see
            `worst_case`.

    Raises:
        ValueError: an argument is out of range, or the parameters or the loss are not finite.
    """
    norms.check_ball(radius, norm)
    check_flags(adaptive=adaptive, normalize_logits=normalize_logits, per_batch=per_batch)
    objective = normalized(objective, params) if normalize_logits else objective
    report = counter(progress, 1 + 2 * _number(objective, per_batch))
    objective.check_finite(params)
    report()
    found, center = [], jax.tree.map(jnp.zeros_like, params)
    for part in _parts(objective, per_batch):
        loss, grads = evaluate(part, params, center, adaptive)
        slope = checked_slope(loss, grads, norm)
        report()
        z, size = _steepest(grads, radius, norm)
        perturbed = loss_at(part, params, z, radius, adaptive)
        found.append([float(loss), perturbed, radius * slope, float(size)])
        report()
    means = np.average(found, axis=0, weights=_examples(objective, per_batch))
    size = np.max(found, axis=0)[3]
    return FirstOrder(means[1] - means[0], means[2], means[0], size, 3)


def _parts(objective: Objective, per_batch: bool) -> Iterator[Objective]:
    """The objective, or one for each of its batches."""
    if not per_batch:
        yield objective
        return
    for i in range(len(objective.weights)):
        yield objective.part(i)


def _number(objective: Objective, per_batch: bool) -> int:
    """Of the parts."""
    return len(objective.weights) if per_batch else 1


def _examples(objective: Objective, per_batch: bool) -> np.ndarray:
    """How many there are in each of the parts."""
    return np.asarray(objective.weights.sum(axis=1 if per_batch else None)).reshape(-1)


@partial(jax.jit, static_argnames="norm")
def _steepest(grads: Params, radius: float, norm: Norm) -> tuple[Params, jax.Array]:
    """The z in the ball that increases a linear loss most, and its size."""
    z = trees.scaled(radius, norms.steepest(grads, norm))
    return z, norms.size(z, norm)
