"""Refuses optimizers that gather gradients over batches, or split a batch, where it goes wrong.

Likewise optax's own SAM, which spreads a step over several calls.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from vasso_jax import optim
from vasso_jax.train.steps.state import nodes_of

# Stands for the parameters of a network that is not known yet.
ANY_PARAMS = {"layer": {"kernel": jax.ShapeDtypeStruct((2, 2), jnp.float32)}}


class _AsksForMicrobatchError(Exception):
    """The optimizer asked for a part of the batch."""


def check_batches(tx: Any, params: Any = None, *, scheduled: bool) -> None:
    """Checks that an optimizer takes each batch whole, and every batch in the same way.

    The optimizer is traced, without the network. Where that fails it passes: it may be made for
    the parameters of the network, which are not known before the data.

    Args:
        tx: an optax transform, or an `optax.MultiSteps`.
        params: of the network, or their shapes; None: not known yet.
        scheduled: whether its learning rate follows the schedule of the run.

    Raises:
        ValueError: it asks for microbatches, contains `optax.contrib.sam`, or contains an
            `optax.MultiSteps` that would slow the schedule down, or that is around a
            sharpness-aware transform.
    """
    if params is None:
        params = ANY_PARAMS
    try:
        state = jax.eval_shape(tx.init, params)
    except Exception:
        return
    if nodes_of(optax.contrib.SAMState, state):
        raise ValueError(
            "optax.contrib.sam leaves the parameters perturbed between its calls or, with "
            "opaque_mode, takes nothing but grad_fn: use vasso_jax.optim.sam"
        )
    accumulating = nodes_of(optax.MultiStepsState, state)
    if accumulating and scheduled:
        raise ValueError(
            "optax.MultiSteps reads the learning rate at its own updates, of which there are fewer "
            "than steps, so the schedule would not reach its end: raise batch_size, or give the "
            "whole optimizer with a schedule of its own, as train(config, workdir, tx=...)"
        )
    if nodes_of(optim.SharpnessAwareState, [state.inner_opt_state for state in accumulating]):
        raise ValueError(
            "optax.MultiSteps around a sharpness-aware optimizer uses the perturbed gradient of "
            "its last batch only: put it around the base, as in "
            "sam(optax.MultiSteps(base, 2).gradient_transformation()), or raise batch_size"
        )
    if _asks_for_microbatches(tx, params):
        raise ValueError(
            "the optimizer asks for microbatches, but the trainer gives it each batch whole: leave "
            "its argument microbatches out; the run's own option, --config.microbatches, saves as "
            "much memory"
        )


def _asks_for_microbatches(tx: Any, params: Any) -> bool:
    def grad_fn(at: Any, i: Any) -> Any:
        if not isinstance(i, int):
            raise _AsksForMicrobatchError
        return at

    def update(w: Any) -> Any:
        return optax.with_extra_args_support(tx).update(w, tx.init(w), w, grad_fn=grad_fn)

    # Tracing few parameters is quicker. An optimizer made for those of the network fails on them.
    for each in (ANY_PARAMS, params):
        try:
            jax.eval_shape(update, each)
        except _AsksForMicrobatchError:
            return True
        except Exception:
            continue
        return False
    return False
