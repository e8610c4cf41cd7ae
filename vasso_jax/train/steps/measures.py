"""What a train step measures: loss, accuracy, and what the perturbation did."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from vasso_jax import optim
from vasso_jax.train.steps.state import MetricSum


def added(sums: dict[str, MetricSum], measured: dict[str, tuple[Any, Any]]) -> dict[str, MetricSum]:
    """The sums with what a step has measured: {name: (whether it has it, its value)}."""
    return {name: total.plus(*measured[name]) for name, total in sums.items()}


def of_perturbation(passes: optim.Passes, rho: Any) -> dict[str, tuple[Any, Any]]:
    """{name: (whether the step has it, its value)} of `OF_PERTURBATION`."""
    norm = passes.perturbation_norm
    increase = passes.perturbed.value - passes.clean.value  # NaN where a pass is missing
    figures = {
        "perturbation_norm": norm,
        # A norm of 0 is not one that is too short: there is no direction.
        "norm_over_rho": jnp.where(norm > 0, norm / rho, jnp.nan),
        "cosine": passes.cosine,
        "loss_increase": increase,
    }
    return {
        **{name: (jnp.isfinite(value), value) for name, value in figures.items()},
        "perturbed": (jnp.asarray(True), passes.perturbed.taken),
        "nonfinite_gradients": (jnp.asarray(True), ~passes.is_finite),
    }


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    """Per example, float32 [B]; the smoothed target is (1 - s) onehot + s / classes."""
    plain = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if not smoothing:
        return plain
    uniform = -jax.nn.log_softmax(logits).mean(axis=-1)
    return (1 - smoothing) * plain + smoothing * uniform


def top_k(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
    """1.0 where the label's logit is among the k largest, float32 [B].

    Among equal logits the lower class ranks first, as in argmax; NaN counts as wrong.
    """
    own = jnp.take_along_axis(logits, labels[:, None], axis=1)
    lower_class = jnp.arange(logits.shape[-1]) < labels[:, None]
    before = ~(logits <= own) | ((logits == own) & lower_class)
    return (before.sum(axis=1) < k).astype(jnp.float32)
