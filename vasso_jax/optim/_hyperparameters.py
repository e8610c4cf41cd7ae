"""Numbers that may follow a schedule: checked once when given, looked up at every step."""

import numbers

import jax
import jax.numpy as jnp
import optax

ScalarOrSchedule = optax.ScalarOrSchedule


def check_range(name: str, value: ScalarOrSchedule, low: float, high: float | None = None) -> None:
    """Raises ValueError unless `value` is a schedule, an array, or a number in [low, high].

    Arrays pass unread: under `optax.inject_hyperparams` they are traced and have no value yet.
    """
    if callable(value) or isinstance(value, jax.Array):
        return
    allowed = f">= {low}" if high is None else f"in [{low}, {high}]"
    in_range = (
        isinstance(value, numbers.Real)
        and not isinstance(value, bool)
        and low <= float(value) <= (float("inf") if high is None else high)
        and float(value) != float("inf")
    )
    if not in_range:
        raise ValueError(f"{name} must be a number {allowed} or an optax schedule, got {value!r}")


def value_at(value: ScalarOrSchedule, count: jax.Array) -> jax.Array:
    """The hyperparameter at step `count` (int32 scalar), as a scalar array."""
    return jnp.asarray(value(count) if callable(value) else value)
