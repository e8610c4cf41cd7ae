"""The jitted train and evaluation steps."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from vasso_jax import optim
from vasso_jax.choices import check_choice
from vasso_jax.models.layers import BatchNorm
from vasso_jax.train.mesh import batch_sharding, gather
from vasso_jax.train.state import TrainState, perturbation_metrics, state_shardings
from vasso_jax.train.streams import stream_key

BATCH_STATS = ("clean", "perturbed", "both")
Batch = tuple[jax.Array, jax.Array]


def make_train_step(
    model: nn.Module,
    tx: optax.GradientTransformation,
    *,
    take_batch: Callable[..., Batch],
    augment: Callable[[jax.Array, jax.Array], jax.Array],
    label_smoothing: float,
    batch_stats: str,
    seed: int,
    mesh: Mesh,
) -> Callable[..., TrainState]:
    """Builds `step(state, *feed) -> state`, jitted; the given state's buffers are reused.

    The optimizer asks for its gradients, so that a pass that it can do without is not made. Both
    passes of a sharpness-aware method see the same augmented batch and the same dropout key.
    Reported loss and accuracy come from the clean pass. Batch statistics are those of the global
    batch.

    Args:
        model: a network of `vasso_jax.models`.
        tx: any optimizer; see `vasso_jax.optim.value_and_update`.
        take_batch: `(*feed, step) -> images uint8 [B, H, W, C], labels int32 [B]`; traced.
        augment: `(key, images) -> float32 [B, H, W, C]`; traced.
        label_smoothing: in [0, 1).
        batch_stats: the pass whose batch statistics move BatchNorm's running ones: `clean`,
            `perturbed`, or `both`, one after the other as in VaSSO's original code. A step without
            the wanted pass takes the other one for the last two, and leaves them for `clean`.
        seed: of the run; augmentation and dropout keys follow from it and the step.
        mesh: of `make_mesh`; the batch is split over all of it, and the state that comes back lies
            as `state_shardings` says.

    Raises:
        ValueError: label_smoothing out of range, or unknown batch_stats.
    """
    check_choice("batch_stats", batch_stats, BATCH_STATS)
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")

    def loss_fn(
        params: Any, i: int, images: jax.Array, labels: jax.Array, running: Any, key: jax.Array
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
        del i  # the batch is not taken in parts
        logits, moved = model.apply(
            {"params": gather(params, mesh), "batch_stats": running},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        accuracy = {f"top{k}": _top_k(logits, labels, k).mean() for k in (1, 5)}
        loss = _cross_entropy(logits, labels, label_smoothing).mean()
        return loss, (accuracy, moved.get("batch_stats", {}))

    value_and_update = optim.value_and_update(loss_fn, tx, has_aux=True)

    def step(state: TrainState, *feed: Any) -> TrainState:
        key = jax.random.fold_in(stream_key(seed, "step"), state.step)
        augment_key, dropout_key = jax.random.split(key)
        batch = jax.lax.with_sharding_constraint(
            take_batch(*feed, state.step), batch_sharding(mesh)
        )
        images, labels = augment(augment_key, batch[0]), batch[1]
        passes, updates, opt_state = value_and_update(
            state.params, state.opt_state, images, labels, state.batch_stats, dropout_key
        )
        accuracy, _ = passes.clean.aux
        metrics = {
            "clean_passes": 1.0,
            "loss": passes.clean.value,
            **accuracy,
            **perturbation_metrics(opt_state),
        }
        new_state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=_moved(state.batch_stats, passes, batch_stats),
            opt_state=opt_state,
            metric_sums=jax.tree.map(
                lambda total, x: total + jnp.where(passes.clean.taken, x, 0),
                state.metric_sums,
                metrics,
            ),
        )
        # Only a buffer that is to hold the same part again can be reused.
        return jax.lax.with_sharding_constraint(new_state, state_shardings(new_state, mesh))

    return jax.jit(step, donate_argnums=0)


def _moved(running: Any, passes: optim.Passes, which: str) -> Any:
    """BatchNorm's running statistics after a step whose passes both started from `running`."""
    has_clean, has_perturbed = passes.clean.taken, passes.perturbed.taken

    def move(old: jax.Array, clean: jax.Array, perturbed: jax.Array) -> jax.Array:
        clean = jnp.where(has_clean, clean, old)
        if which == "clean":
            return clean
        if which == "perturbed":
            return jnp.where(has_perturbed, perturbed, clean)
        # The second pass, had it started from what the first one left.
        in_turn = perturbed + (1 - BatchNorm.momentum) * (clean - old)
        return jnp.where(has_perturbed, in_turn, clean)

    return jax.tree.map(move, running, passes.clean.aux[1], passes.perturbed.aux[1])


def make_eval_step(
    model: nn.Module,
    *,
    take_batch: Callable[..., tuple[jax.Array, jax.Array, jax.Array]],
    normalize: Callable[[jax.Array], jax.Array],
    mesh: Mesh,
) -> Callable[..., dict[str, jax.Array]]:
    """Builds `step(state, *feed) -> {"examples", "loss", "top1", "top5"}`, jitted.

    The four are sums over the valid examples of the batch (float32 scalars); the loss is the plain
    cross-entropy, without label smoothing.

    Args:
        model: a network of `vasso_jax.models`.
        take_batch: `(*feed) -> images, labels, valid bool [B]`; traced.
        normalize: `(images uint8) -> float32 [B, H, W, C]`; traced.
        mesh: of `make_mesh`; the batch is split over all of it.
    """

    def step(state: TrainState, *feed: Any) -> dict[str, jax.Array]:
        images, labels, valid = jax.lax.with_sharding_constraint(
            take_batch(*feed), batch_sharding(mesh)
        )
        variables = {"params": gather(state.params, mesh), "batch_stats": state.batch_stats}
        logits: Any = model.apply(variables, normalize(images), train=False)
        per_example = {
            "examples": jnp.ones_like(valid, jnp.float32),
            "loss": _cross_entropy(logits, labels, 0.0),
            "top1": _top_k(logits, labels, 1),
            "top5": _top_k(logits, labels, 5),
        }
        return {name: jnp.sum(x, where=valid) for name, x in per_example.items()}

    return jax.jit(step)


def _cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    """Per example, float32 [B]; the smoothed target is (1 - s) onehot + s / classes."""
    plain = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if not smoothing:
        return plain
    uniform = -jax.nn.log_softmax(logits).mean(axis=-1)
    return (1 - smoothing) * plain + smoothing * uniform


def _top_k(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
    """1.0 where the label's logit is among the k largest, float32 [B].

    Of equal logits the lower class counts as larger, as for argmax; NaN counts as wrong.
    """
    own = jnp.take_along_axis(logits, labels[:, None], axis=1)
    lower_class = jnp.arange(logits.shape[-1]) < labels[:, None]
    before = ~(logits <= own) | ((logits == own) & lower_class)
    return (before.sum(axis=1) < k).astype(jnp.float32)
