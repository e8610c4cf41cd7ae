"""The loss of a network on images, as a function of its parameters alone: what is measured.

It is the cross-entropy, without label smoothing and without weight decay: the term of the weights
is added by the optimizer, and would only add its factor to every eigenvalue. Images are normalised
and not augmented, and dropout is off. So it is the loss that an evaluation reports, whichever way
the network was trained.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from vasso_jax import data
from vasso_jax.data.checks import check_fit
from vasso_jax.names import check_choice
from vasso_jax.own_code import own_code
from vasso_jax.sharpness.objective import Objective, mean_loss
from vasso_jax.train.steps.measures import cross_entropy

BATCH_STATS = ("running", "batch")


def network_loss(
    model: nn.Module,
    variables: dict[str, Any],
    images: data.Split,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    batch_size: int,
    batch_stats: str = "running",
) -> tuple[Objective, Any]:
    """The mean loss of a network on images, and the parameters to take it at.

    With the statistics of the batch, copies that fill a batch up would change them, so that only
    whole batches are taken, see `measured_images`.

    All is on the first device of this process. The arithmetic is that of float32, where the network
    has an attribute `dtype`: rounding in less would hide small eigenvalues.

    Args:
        model: see `make_train_step`.
        variables: {"params", "batch_stats"}.
        images: with their labels.
        mean, std: per channel, for pixels in [0, 1].
        batch_size: images per pass; it bounds the memory.
        batch_stats: what BatchNorm normalises by: its `running` statistics, as in an evaluation, or
            those of the `batch`, as in training, which then follow the parameters.

    Raises:
        ValueError: there is no such choice, it has no effect, the network fails, or a label is of
            no class of its.
    """
    check_choice("choice of batch_stats", batch_stats, BATCH_STATS)
    params, running = variables["params"], variables.get("batch_stats", {})
    if batch_stats == "batch" and not jax.tree.leaves(running):
        raise ValueError(
            "batch_stats=batch has no effect: the network has no running statistics; leave it out"
        )
    if getattr(model, "dtype", jnp.float32) != jnp.float32:
        model = model.clone(dtype=jnp.float32)
    count = measured_images(len(images.labels), batch_size, batch_stats)
    images = data.Split(images.images[:count], images.labels[:count])
    device = jax.local_devices()[0]
    params, running = jax.device_put((params, running), device)
    logits = _Logits(model, tuple(mean), tuple(std), batch_stats == "batch")
    with jax.default_device(device):
        objective = mean_loss(Partial(logits, running), _loss, images._asdict(), batch_size)
    call = f"model.apply(variables, images, train={batch_stats == 'batch'})"
    with own_code("the loss cannot be measured", call):
        jax.eval_shape(objective.value, params)
        first = jax.tree.map(lambda x: x[0], objective.batches)
        classes = jax.eval_shape(objective.outputs, params, first).shape[-1]
    # Else the loss would be NaN, or that of the last class for the label -1.
    check_fit({"the loss cannot be measured": images}, classes)
    return objective, params


def measured_images(images: int, batch_size: int, batch_stats: str) -> int:
    """So many of the images are in the loss: with the statistics of the batch, whole batches."""
    if batch_stats == "batch" and images > batch_size:
        return images - images % batch_size
    return images


def _loss(logits: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
    return cross_entropy(logits, batch["labels"], smoothing=0.0)


@dataclasses.dataclass(frozen=True)
class _Logits:
    """Traced: the logits of a batch. Equal for equal networks, which then share their programs."""

    model: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    of_batch: bool

    def __call__(self, running: Any, params: Any, batch: dict[str, jax.Array]) -> jax.Array:
        variables = {"params": params, "batch_stats": running}
        images = data.normalize(batch["images"], self.mean, self.std)
        # No random numbers are there, so what needs some fails, or leaves dropout out by itself.
        options: dict[str, Any] = {"mutable": ["batch_stats"]} if self.of_batch else {}
        with nn.intercept_methods(_without_dropout):
            logits: Any = self.model.apply(variables, images, train=self.of_batch, **options)
        return (logits[0] if self.of_batch else logits).astype(jnp.float32)


def _without_dropout(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    dropout = isinstance(context.module, nn.Dropout) and context.method_name == "__call__"
    return args[0] if dropout else call(*args, **kwargs)
