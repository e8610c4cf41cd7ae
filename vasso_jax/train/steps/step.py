"""The jitted train and evaluation steps."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from vasso_jax import data, optim
from vasso_jax.train.devices.sharding import batch_sharding, gather, set_if_split
from vasso_jax.train.steps import ema
from vasso_jax.train.steps.compiler_options import Options
from vasso_jax.train.steps.groups import in_microbatches, mean_over_microbatches, per_device
from vasso_jax.train.steps.measures import added, cross_entropy, of_perturbation, top_k
from vasso_jax.train.steps.state import TrainState

# Most arrays of a network, biases and scales, have no more numbers than this.
_SMALL = 4096


def make_train_step(
    model: nn.Module,
    tx: optax.GradientTransformation,
    *,
    take_batch: Callable[[Any, jax.Array], data.Batch],
    augment: Callable[[jax.Array, jax.Array], jax.Array],
    mix: Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, data.Targets]] | None = None,
    label_smoothing: float,
    batch_stats: str,
    mesh: Mesh,
    rho: optax.Schedule | None = None,
    ema_decay: float = 0.0,
    batch_stats_over: str = "batch",
    microbatches: int = 1,
    formats: TrainState | None = None,
    compiler_options: Options = None,
) -> Callable[..., TrainState]:
    """Builds `step(state, item) -> state`, jitted; the given state's buffers are reused.

    The optimizer requests its gradients, so a pass that it does not need is skipped. Both passes of
    a sharpness-aware method see the same augmented batch and the same dropout key. Reported loss
    and accuracy come from the clean pass, or from the perturbed one of a method that has no other.

    Args:
        model: a Flax Linen module called as `(images, train) -> logits [B, num_classes]`, with
            BatchNorm's running statistics, if any, in `batch_stats`.
        tx: any optimizer; see `vasso_jax.optim.value_and_update`.
        take_batch: `(item, step) -> Batch`; traced.
        augment: `(key, images) -> float32 [B, H, W, C]`; traced.
        mix: then `(key, pixels, labels) -> (pixels, Targets)`; traced. None: nothing is mixed.
        label_smoothing: in [0, 1).
        batch_stats: the pass whose batch statistics update BatchNorm's running statistics: `clean`,
            `perturbed`, or `both`, one after the other as in VaSSO's original code. If a step lacks
            the wanted pass, `clean` leaves the statistics unchanged, and the other two use the
            pass that was made. `both` is exact for averages of constant decay,
            new = decay * old + (1 - decay) * batch, and for integer counters; what else there is,
            such as a bool, is that of the perturbed pass.
        mesh: of `make_mesh`; the batch is split over all its devices.
        rho: the norm that the perturbation is to have, by step; None: unknown.
        ema_decay: of the average of the weights; 0: none.
        batch_stats_over: whose batch statistics normalise an image: those of the global `batch`, or
            those of the part of it on the same `device`. Running statistics then move by the mean
            over the devices.
        microbatches: parts of the batch in which each pass is made, one after the other. Gradients,
            loss, accuracy and moved running statistics are means over them. Each has its own batch
            statistics and dropout key.
        formats: of `state_formats`: how the returned state is placed; None: the compiler decides.
        compiler_options: of XLA.
    """

    def forward(
        params: Any, images: jax.Array, running: Any, key: jax.Array
    ) -> tuple[jax.Array, Any]:
        """Logits, and the running statistics updated by these images."""
        logits, moved = model.apply(
            {"params": params, "batch_stats": running},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        return logits, moved.get("batch_stats", {})

    apply = per_device(forward, mesh) if batch_stats_over == "device" else forward

    def loss_fn(
        params: Any, batch: tuple[jax.Array, data.Targets, jax.Array], running: Any
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
        images, targets, key = batch
        logits, moved = apply(params, images, running, key)
        accuracy = {f"top{k}": targets.mean(partial(top_k, logits, k=k)) for k in (1, 5)}
        loss = targets.mean(partial(cross_entropy, logits, smoothing=label_smoothing))
        return loss, (accuracy, moved)

    if microbatches > 1:
        batch_loss = mean_over_microbatches(loss_fn, mesh)
    else:

        def batch_loss(params: Any, batch: Any, running: Any) -> Any:
            return loss_fn(gather(params, mesh), batch, running)

    value_and_update = optim.value_and_update(batch_loss, tx, has_aux=True)
    # With statistics of each device, the exchange of the running ones would fall apart for it.
    at_once = batch_stats_over == "batch" and _copies_what_is_read_late(mesh)

    def step(state: TrainState, item: Any) -> TrainState:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        augment_key, dropout_key = jax.random.split(key)
        taken = jax.lax.with_sharding_constraint(take_batch(item, state.step), batch_sharding(mesh))
        images, targets = augment(augment_key, taken.images), data.Targets(taken.labels)
        if mix is not None:
            images, targets = mix(jax.random.fold_in(key, 2), images, taken.labels)
        batch = images, targets, dropout_key
        if microbatches > 1:
            keys = jax.random.split(dropout_key, microbatches)
            batch = *in_microbatches((images, targets), microbatches, mesh), keys
        params, running = state.params, state.batch_stats
        if at_once and optim.can_ask(tx, params):
            params, running = read_at_once((params, running))
        with set_if_split(mesh):
            passes, updates, opt_state = value_and_update(params, state.opt_state, batch, running)
        decay = None
        if batch_stats == "both":
            decay = _decay(
                lambda running: apply(state.params, images, running, dropout_key)[1],
                state.batch_stats,
            )
        reported, which = passes.clean, batch_stats
        if optim.is_single_pass(tx, state.params):
            reported = passes.first
            which = "perturbed"
        measured = {
            "loss": (reported.taken, reported.value),
            **{name: (reported.taken, share) for name, share in reported.aux[0].items()},
            **of_perturbation(passes, rho(state.step) if rho else jnp.nan),
        }
        params = optax.apply_updates(state.params, updates)
        moved = _moved(state.batch_stats, passes, which, decay)
        return TrainState(
            step=state.step + 1,
            params=params,
            batch_stats=moved,
            opt_state=opt_state,
            ema=ema.update(state.ema, params, moved, ema_decay, state.step),
            key=state.key,
            metric_sums=added(state.metric_sums, measured),
            window_sums=added(state.window_sums, measured),
        )

    # A buffer can be reused only if the new array is placed as the old one.
    return jax.jit(step, donate_argnums=0, out_shardings=formats, compiler_options=compiler_options)


def _copies_what_is_read_late(mesh: Mesh) -> bool:
    # Arrays that are split would have to be gathered.
    return mesh.devices.flat[0].platform == "gpu" and mesh.shape["fsdp"] == 1


def read_at_once(tree: Any) -> Any:
    """Traced: the same arrays, of which the small ones are read from memory together.

    A step overwrites its state. XLA:GPU copies each array that it still reads after that, by a
    kernel of its own. What is read at once, at the start, needs no copy.
    """
    leaves, structure = jax.tree.flatten(tree)
    small: dict[Any, list[int]] = {}
    for i, leaf in enumerate(leaves):
        if leaf.ndim < 3 and leaf.size <= _SMALL:
            small.setdefault(leaf.dtype, []).append(i)
    for rows in small.values():
        parts = [leaves[i].ravel() for i in rows]
        # Without the barrier XLA would read the arrays one by one again.
        joined = jax.lax.optimization_barrier(jnp.concatenate(parts))
        ends = np.cumsum([part.size for part in parts])
        for i, part in zip(rows, jnp.split(joined, ends[:-1]), strict=True):
            leaves[i] = part.reshape(leaves[i].shape)
    return jax.tree.unflatten(structure, leaves)


def _decay(move: Callable[[Any], Any], running: Any) -> Any:
    """The share of the old running averages that one batch leaves: 1 - momentum, for each.

    `move` is elementwise linear in them, for any BatchNorm and any momentum:
    new = decay * old + (1 - decay) * batch. So its derivative is the decay. The derivative depends
    on nothing else, so the compiler removes the forward pass. Leaves that are no floats, such as a
    counter, have no derivative: None takes their place.
    """

    def floats(tree: Any) -> Any:
        return jax.tree.map(lambda x: x if jnp.issubdtype(x.dtype, jnp.floating) else None, tree)

    def move_floats(averages: Any) -> Any:
        whole = jax.tree.map(lambda x, new: x if new is None else new, running, averages)
        return floats(move(whole))

    moved, pullback = jax.vjp(move_floats, floats(running))
    return pullback(jax.tree.map(jnp.ones_like, moved))[0]


def _moved(running: Any, passes: optim.Passes, which: str, decay: Any) -> Any:
    """BatchNorm's running statistics after a step whose passes both started from `running`."""
    has_clean, has_perturbed = passes.clean.taken, passes.perturbed.taken
    clean, perturbed = passes.clean.aux[1], passes.perturbed.aux[1]
    clean = jax.tree.map(lambda new, old: jnp.where(has_clean, new, old), clean, running)
    if which == "clean":
        return clean
    if which == "both":
        perturbed = jax.tree.map(_in_turn, running, clean, perturbed, decay)
    return jax.tree.map(lambda new, old: jnp.where(has_perturbed, new, old), perturbed, clean)


def _in_turn(old: jax.Array, first: jax.Array, second: jax.Array, decay: Any) -> jax.Array:
    """What the second pass would give if it had started from the result of the first."""
    if decay is not None:
        return second + decay * (first - old)
    if jnp.issubdtype(old.dtype, jnp.integer):
        return second + (first - old)
    return second


def make_eval_step(
    model: nn.Module,
    *,
    take_batch: Callable[[Any], data.EvalBatch],
    normalize: Callable[[jax.Array], jax.Array],
    mesh: Mesh,
    compiler_options: Options = None,
) -> Callable[..., dict[str, jax.Array]]:
    """Builds `step(state, item) -> {"examples", "loss", "top1", "top5"}`, jitted.

    All four are sums over the valid examples of the batch (float32 scalars). The loss is the
    cross-entropy without label smoothing.

    Args:
        model: see `make_train_step`.
        take_batch: `(item) -> EvalBatch`; traced.
        normalize: `(images uint8) -> float32 [B, H, W, C]`; traced.
        mesh: of `make_mesh`; the batch is split over all its devices.
        compiler_options: of XLA.
    """

    def step(state: TrainState, item: Any) -> dict[str, jax.Array]:
        images, labels, valid = jax.lax.with_sharding_constraint(
            take_batch(item), batch_sharding(mesh)
        )
        variables = {"params": gather(state.params, mesh), "batch_stats": state.batch_stats}
        logits: Any = model.apply(variables, normalize(images), train=False)
        per_example = {
            "examples": jnp.ones_like(valid, jnp.float32),
            "loss": cross_entropy(logits, labels, 0.0),
            "top1": top_k(logits, labels, 1),
            "top5": top_k(logits, labels, 5),
        }
        return {name: jnp.sum(x, where=valid) for name, x in per_example.items()}

    return jax.jit(step, compiler_options=compiler_options)
