"""Refuses choices of the statistics of BatchNorm that have no effect."""

from typing import Any

import jax
import optax

from vasso_jax import optim
from vasso_jax.train.config.fields import RunOptions
from vasso_jax.train.steps.accumulation import ANY_PARAMS


def check_passes(which: str, tx: optax.GradientTransformation, params: Any = None) -> None:
    """Checks that a step of an optimizer has two passes to choose from.

    Args:
        which: the option `batch_stats`.
        tx: any optimizer.
        params: of the network, or their shapes; None: not known yet. An optimizer that is made for
            them then passes.

    Raises:
        ValueError: the run would be the same with `batch_stats=clean`.
    """
    if which == "clean":
        return
    known: Any = ANY_PARAMS if params is None else params
    try:
        single_pass, asks = optim.is_single_pass(tx, known), optim.can_ask(tx, known)
    except Exception:
        if params is None:
            return
        raise
    if single_pass:
        raise ValueError(
            f"batch_stats={which} has no effect: a step of this method is one evaluation, whose "
            "statistics are the ones; leave it out"
        )
    if not asks:
        raise ValueError(
            f"batch_stats={which} has no effect: the optimizer reports no perturbed pass; leave it "
            "out, or put a sharpness-aware transform first, not inside another one (see "
            "vasso_jax.optim.value_and_update)"
        )


def check_statistics(options: RunOptions, batch_stats: Any) -> None:
    """Raises ValueError if an option is about statistics that the network does not have.

    Args:
        options: of the run.
        batch_stats: the running statistics of the network, or their shapes.
    """
    if jax.tree.leaves(batch_stats):
        return
    for field, usual in (("batch_stats", "clean"), ("batch_stats_over", "batch")):
        if (value := getattr(options, field)) != usual:
            raise ValueError(
                f"{field}={value} has no effect: the network has no running statistics; leave it "
                "out"
            )
