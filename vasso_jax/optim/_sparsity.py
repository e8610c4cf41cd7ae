# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Sparse perturbations: a transform that keeps only a share of the coordinates (SSAM)."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._arguments import (
    check_choice,
    check_count,
    check_range,
)
from vasso_jax.optim._masks import (
    Mask,
    check_mask,
    masked_leaves,
    restricted,
)
from vasso_jax.optim._numerics import all_finite, any_nonzero, increment, vary_with, zero_count
from vasso_jax.optim._typed import lax, tree_map


class SparseMaskState(NamedTuple):
    """State of `sparse_mask`.

    Attributes:
        age: int32 scalar, for how many steps the mask has been used; it is renewed at `every`.
        renewals: int32 scalar, how often it has been renewed.
        mask: uint8, structure and shapes of the parameters, 1 where perturbed. (Not bool:
            optax.contrib.sam selects states by arithmetic, which turns bool into int32.)
    """

    age: jax.Array
    renewals: jax.Array
    mask: Any


def sparse_mask(
    density: float,
    *,
    choice: Literal["fisher", "random"] = "fisher",
    every: int = 100,
    seed: int = 0,
    mask: Mask | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Sets all but the share `density` of all coordinates to zero (SSAM).

        eps = m * u,  m in {0, 1}

    After a ball, `optax.chain(l2_ball(rho), sparse_mask(0.5))`, this is the paper's perturbation,
    whose norm is below rho. Before the ball, it gives a perturbation of norm rho with that
    sparsity.

    The mask m is chosen every `every` steps, over all parameters together:

    - `fisher`: the coordinates of the largest empirical Fisher information. The paper averages
      squared gradients of single examples. Here it is the square of the minibatch's clean gradient
      (outside a sharpness-aware transform: of the updates), unless the keyword `fisher` of
      `update` gives something better: a pytree of non-negative numbers.
    - `random`: drawn uniformly.

    The share is exact, except for ties, which are kept together. A coordinate of Fisher information
    0 is never chosen. Where that information is zero throughout, or something is not finite, the
    old mask is used for another step. Before the first choice all coordinates are kept.

    Args:
        density: share of coordinates that are perturbed, in [0, 1] (the paper's 1 - sparsity).
        choice: `fisher` or `random`.
        every: steps between two choices, >= 1. The authors renew once per epoch or less often.
        seed: seed of the choice `random`.
        mask: which parameters are perturbed at all; see `l2_ball`. The density is a share of these.

    Returns:
        A transform whose state is a `SparseMaskState`: one byte per parameter.

    Raises:
        ValueError: an argument is out of range.

    References:
        Mi et al., Make Sharpness-Aware Minimization Stronger: A Sparsified Perturbation Approach,
        NeurIPS 2022, algorithms 1 and 2, https://arxiv.org/abs/2210.05177

    Example:
        >>> import jax.numpy as jnp
        >>> from vasso_jax.optim import sparse_mask
        >>> sparse = sparse_mask(density=0.5)
        >>> eps, _ = sparse.update(jnp.array([0.3, -0.1, 0.2, -0.4]), sparse.init(jnp.zeros(4)))
        >>> print(eps)
        [ 0.3  0.   0.  -0.4]
    """
    check_range("density", density, 0.0, 1.0, schedule=False)
    check_count("every", every)
    check_mask("mask", mask)
    check_choice("choice", choice, "fisher", "random")

    def init(params: optax.Params) -> SparseMaskState:
        ones = tree_map(lambda p: jnp.ones_like(p, jnp.uint8), params)
        return SparseMaskState(jnp.full((), every, jnp.int32), zero_count(), ones)

    def chosen(information: Any, renewals: jax.Array, renew: jax.Array) -> Any:
        """A new mask."""
        scores = information
        if choice == "random":
            numbers = vary_with(_uniform(renewals, information, seed), renew)
            scores = restricted(numbers, mask)
        perturbed = jax.tree.leaves(masked_leaves(mask, information))
        leaves = jax.tree.leaves(information)
        size = sum(x.size for x, keep in zip(leaves, perturbed, strict=True) if keep)
        wanted = jnp.round(jnp.asarray(density, jnp.float32) * size)
        return _largest(tree_map(lambda s: jnp.abs(s), scores), wanted)

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        fresh: jax.Array | bool = True,
        clean: optax.Updates | None = None,
        fisher: Any = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, SparseMaskState]:
        del params, extra_args
        # The largest squares are the largest magnitudes, which do not underflow.
        information = updates if clean is None else clean
        information = restricted(information if fisher is None else fisher, mask)
        useful = all_finite(information) & (choice == "random" or any_nonzero(information))
        renew = (state.age >= every) & useful & fresh
        new_mask = lax.cond(
            renew,
            lambda: chosen(information, state.renewals, renew),
            lambda: vary_with(state.mask, renew),
        )
        kept = tree_map(lambda m, u: jnp.where(m == 1, u, jnp.zeros_like(u)), new_mask, updates)
        age = jnp.where(renew, 1, increment(state.age))
        return kept, SparseMaskState(age, state.renewals + renew.astype(jnp.int32), new_mask)

    return optax.GradientTransformationExtraArgs(init, update)


def _uniform(renewals: jax.Array, tree: Any, seed: int) -> Any:
    """Numbers in [0, 1) with the structure, shapes and sharding of `tree`."""
    count = len(jax.tree.leaves(tree))
    keys = iter(jax.random.split(jax.random.fold_in(jax.random.key(seed), renewals), count))

    def draw(leaf: Any) -> jax.Array:
        # On a mesh of explicit axes, the sum has the sharding of the zeros.
        return jnp.zeros_like(leaf, jnp.float32) + jax.random.uniform(next(keys), leaf.shape)

    return tree_map(draw, tree)


def _largest(scores: Any, wanted: jax.Array) -> Any:
    """uint8 pytree: 1 at the `wanted` (a scalar) largest of all scores (>= 0), taken together.

    The threshold is built bit by bit, with one count over all leaves per bit. Sorting them as one
    vector would gather sharded parameters on every device.
    """
    # Non-negative floats have the order of the integers with the same bits.
    bits = tree_map(
        lambda s: jax.lax.bitcast_convert_type(s.astype(jnp.float32), jnp.int32), scores
    )

    def count(threshold: jax.Array) -> jax.Array:
        counts = [jnp.sum(leaf >= threshold) for leaf in jax.tree.leaves(bits)]
        return sum(counts, start=jnp.zeros((), jnp.int32))

    def add_bit(i: jax.Array, threshold: jax.Array) -> jax.Array:
        candidate = threshold | jnp.left_shift(jnp.int32(1), jnp.int32(30 - i))
        return jnp.where(count(candidate) >= wanted, candidate, threshold)

    zero = jnp.zeros((), jnp.int32)
    threshold = lax.fori_loop(0, 31, add_bit, vary_with(zero, count(zero)))
    return tree_map(lambda b: ((b >= threshold) & (b > 0)).astype(jnp.uint8), bits)
