"""The jitted train and evaluation steps."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from vasso_jax.train.mesh import batch_sharding
from vasso_jax.train.state import TrainState, perturbation_metrics
from vasso_jax.train.streams import stream_key

Batch = tuple[jax.Array, jax.Array]


def make_train_step(
    model: nn.Module,
    tx: optax.GradientTransformationExtraArgs,
    *,
    take_batch: Callable[..., Batch],
    augment: Callable[[jax.Array, jax.Array], jax.Array],
    label_smoothing: float,
    seed: int,
    mesh: Mesh,
) -> Callable[..., TrainState]:
    """Builds `step(state, *feed) -> state`, jitted; the given state's buffers are reused.

    Both passes of a sharpness-aware method see the same augmented batch and the same dropout key.
    Reported loss and accuracy, and BatchNorm's running statistics, come from the clean pass. Batch
    statistics are those of the global batch.

    Args:
        model: a network of `vasso_jax.models`.
        tx: an optimizer whose `update` accepts `grad_fn`.
        take_batch: `(*feed, step) -> images uint8 [B, H, W, C], labels int32 [B]`; traced.
        augment: `(key, images) -> float32 [B, H, W, C]`; traced.
        label_smoothing: in [0, 1).
        seed: of the run; augmentation and dropout keys follow from it and the step.
        mesh: the batch is split over its `data` axis.

    Raises:
        ValueError: label_smoothing out of range.
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")

    def step(state: TrainState, *feed: Any) -> TrainState:
        key = jax.random.fold_in(stream_key(seed, "step"), state.step)
        augment_key, dropout_key = jax.random.split(key)
        batch = jax.lax.with_sharding_constraint(
            take_batch(*feed, state.step), batch_sharding(mesh)
        )
        images, labels = augment(augment_key, batch[0]), batch[1]

        def loss_fn(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
            logits, moved = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": dropout_key},
            )
            loss = _cross_entropy(logits, labels, label_smoothing).mean()
            return loss, (logits, moved.get("batch_stats", {}))

        (loss, (logits, batch_stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params
        )
        updates, opt_state = tx.update(
            grads,
            state.opt_state,
            state.params,
            grad_fn=lambda params, i: jax.grad(lambda p: loss_fn(p)[0])(params),
        )
        metrics = {
            "steps": 1.0,
            "loss": loss,
            "top1": _top_k(logits, labels, 1).mean(),
            "top5": _top_k(logits, labels, 5).mean(),
            **perturbation_metrics(opt_state),
        }
        return TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
            metric_sums=jax.tree.map(jnp.add, state.metric_sums, metrics),
        )

    return jax.jit(step, donate_argnums=0)


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
        mesh: the batch is split over its `data` axis.
    """

    def step(state: TrainState, *feed: Any) -> dict[str, jax.Array]:
        images, labels, valid = jax.lax.with_sharding_constraint(
            take_batch(*feed), batch_sharding(mesh)
        )
        variables = {"params": state.params, "batch_stats": state.batch_stats}
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
