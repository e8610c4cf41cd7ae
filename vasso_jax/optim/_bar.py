# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""BAR: balances the two factors of LoRA, as SAM does implicitly, without a second evaluation."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._arguments import (
    ScalarOrSchedule,
    check_choice,
    check_params,
    check_range,
    check_transform,
    value_at,
)
from vasso_jax.optim._numerics import global_norm, increment, zero_count
from vasso_jax.optim._typed import tree_map, tree_util


class BarState(NamedTuple):
    """State of `bar`.

    Attributes:
        count: int32 scalar, the step at which schedules are read.
        base: state of the base.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  (optax's name)
    base: optax.OptState


def bar(
    base: optax.GradientTransformation,
    learning_rate: ScalarOrSchedule,
    *,
    alpha: ScalarOrSchedule = 0.5,
    by: Literal["gradient", "norm"] = "gradient",
) -> optax.GradientTransformationExtraArgs:
    """Balancedness-aware regularization of LoRA: SAM's implicit effect, at one evaluation.

        by gradient (nBAR):  X grows and Y shrinks if ||g_X|| >= ||g_Y||, else the other way round
        by norm (oBAR):      X shrinks and Y grows if ||X|| >= ||Y||, else the other way round
        grows:  X <- (1 + alpha lr) X,   shrinks:  X <- (1 - alpha lr) X
        then the base step, with the gradients from before

    For a product X Y, such as the two factors of LoRA, SAM regularizes the balancedness
    (||X||^2 - ||Y||^2) / 2. This does so directly. The factors are found by their names: `lora_a`
    and `lora_b`, in any case of letters, on otherwise equal paths. All other parameters are left to
    the base. Each pair is balanced by itself. Nothing is perturbed, so no `grad_fn` is needed.

    Cost: 1 evaluation, no memory.

    Args:
        base: see `vasso_jax.optim`. Without weight decay, the authors found.
        learning_rate: that of the base, a number >= 0 or its schedule.
        alpha: strength, >= 0, or a schedule of the step. The authors: from 0.05 to 2 at the start,
            then falling linearly or as a cosine, or constant.
        by: what decides which factor grows.

    Raises:
        ValueError: a number is out of range; (from `init`) there are no such factors, or one is
            without the other.

    References:
        Li et al., Implicit Regularization of Sharpness-Aware Minimization for Scale-Invariant
        Problems, NeurIPS 2024, algorithms 2 and 3, https://arxiv.org/abs/2410.14802

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from vasso_jax.optim import bar
        >>> w = {"lora_a": jnp.array([[2.0]]), "lora_b": jnp.array([[1.0]])}
        >>> tx = bar(optax.sgd(0.5), 0.5, alpha=0.5, by="norm")
        >>> updates, _ = tx.update({"lora_a": jnp.zeros((1, 1)), "lora_b": jnp.zeros((1, 1))},
        ...                        tx.init(w), w)
        >>> print(updates["lora_a"], updates["lora_b"])
        [[-0.5]] [[0.25]]
    """
    check_range("learning_rate", learning_rate, 0.0)
    check_range("alpha", alpha, 0.0)
    check_choice("by", by, "gradient", "norm")
    base = optax.with_extra_args_support(check_transform("base", base))

    def init(params: optax.Params) -> BarState:
        _pairs(params)
        return BarState(zero_count(), base.init(params))

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, BarState]:
        check_params("bar", params)
        step = value_at(alpha, state.count) * value_at(learning_rate, state.count)
        factors = _factors(updates if by == "gradient" else params, step, by)
        balanced = tree_map(lambda w, f: (w * f).astype(jnp.result_type(w)), params, factors)
        new_updates, new_base = base.update(updates, state.base, balanced, **extra_args)
        # Not balanced - w, which would lose digits.
        total = tree_map(lambda u, w, f: u + w * (f - 1), new_updates, params, factors)
        return total, BarState(increment(state.count), new_base)

    return optax.GradientTransformationExtraArgs(init, update)


def _factors(compared: Any, step: jax.Array, by: str) -> Any:
    """What each parameter is multiplied by, a pytree of scalars; 1 for those of no pair."""
    leaves, structure = tree_util.tree_flatten(compared)
    factors: list[jax.Array] = [jnp.ones(())] * len(leaves)
    for a, b in _pairs(compared):
        larger = global_norm(leaves[a]) >= global_norm(leaves[b])
        grows = larger if by == "gradient" else jnp.logical_not(larger)
        signed = jnp.where(grows, step, -step)
        factors[a], factors[b] = 1 + signed, 1 - signed
    return tree_util.tree_unflatten(structure, factors)


def _pairs(tree: Any) -> list[tuple[int, int]]:
    """The positions of the two factors of each pair among the leaves."""
    paths = [tree_util.keystr(path).lower() for path, _ in tree_util.tree_leaves_with_path(tree)]
    positions = {path: i for i, path in enumerate(paths)}
    pairs: list[tuple[int, int]] = []
    for path, i in positions.items():
        first, second = path.replace("lora_b", "lora_a"), path.replace("lora_a", "lora_b")
        if first == second:
            continue
        if first not in positions or second not in positions:
            raise ValueError(f"bar: {path} has no counterpart of the name lora_a or lora_b")
        if path == first:
            pairs.append((i, positions[second]))
    if not pairs:
        raise ValueError(
            "bar balances the factors of LoRA, and there are none: no parameter has lora_a or "
            "lora_b in its name"
        )
    return pairs
