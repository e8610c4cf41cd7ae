"""Compiled training steps to be timed: the trainer's own, and optax.contrib.sam's."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import optax
from vasso_jax.train.mesh import check_batch_size, make_mesh

from vasso_jax import models
from vasso_jax.train.optimizer import OPTIMIZERS, make_base, make_optimizer
from vasso_jax.train.state import create_state
from vasso_jax.train.step import make_train_step

RHO = 0.05
OPTAX_SAM = "optax.contrib.sam"
# The second "sgd" checks the timing: its ratio to the first would be 1 without noise.
DEFAULT_METHODS = ("sgd", "sgd again", "sam", "vasso", "vasso refresh_every=5", OPTAX_SAM)
METHODS = (*DEFAULT_METHODS, *(name for name in OPTIMIZERS if name not in DEFAULT_METHODS))
_MATMUL_PRECISION = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "default"}


@dataclasses.dataclass
class Step:
    """A compiled step with its state.

    Attributes:
        function: what was compiled.
        flops: of one step by XLA's count of the program as written; a step that saves a pass now
            and then counts as one that does not.
        memory_bytes: on the device while it runs: arguments, results and temporaries by the
            compiler's own account.
    """

    function: Callable[..., Any]
    compiled: Callable[..., Any]
    state: Any
    batch: tuple[jax.Array, ...]
    flops: float
    memory_bytes: int

    def run(self, steps: int) -> None:
        """Takes that many steps, and waits for the last."""
        for _ in range(steps):
            self.state = self.compiled(self.state, *self.batch)
        jax.block_until_ready(self.state)


def make_step(
    model_name: str,
    images: np.ndarray,
    labels: np.ndarray,
    classes: int,
    *,
    method: str,
    precision: str,
) -> Step:
    """Compiles the step of `method` on SGD with momentum and weight decay.

    Args:
        model_name: of `vasso_jax.models`.
        images: uint8 [B, H, W, 3], the same in every step.
        labels: int32 [B].
        classes: size of the last layer.
        method: one of METHODS.
        precision: of the arithmetic: float32, tf32 or bfloat16; parameters are float32.

    Raises:
        ValueError: unknown model, or a batch that cannot be divided over the devices.
    """
    mesh = make_mesh()
    check_batch_size(len(images), mesh)
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    model = models.create(model_name, classes, dtype)
    base = make_base(
        "sgd",
        0.05,
        momentum=0.9,
        nesterov=False,
        weight_decay=5e-4,
        b1=0.9,
        b2=0.999,
        eps=1e-8,
        clip_norm=0.0,
    )
    if method == OPTAX_SAM:
        init, step = _optax_sam(model, base, images.shape[1:])
    else:
        name, _, refresh = method.removesuffix(" again").partition(" refresh_every=")
        refresh_every = int(refresh) if refresh else None
        tx = make_optimizer(name, base, rho=RHO, refresh_every=refresh_every)

        def init() -> Any:
            return create_state(model, tx, images.shape[1:], seed=0)

        step = make_train_step(
            model,
            tx,
            take_batch=lambda images, labels, step: (images, labels),
            augment=lambda key, images: _normalized(images),
            label_smoothing=0.0,
            batch_stats="clean",
            seed=0,
            mesh=mesh,
        )
    batch = jnp.asarray(images), jnp.asarray(labels)
    with matmul_precision(precision):
        lowered = step.lower(jax.eval_shape(init), *batch)
        compiled = lowered.compile()
    memory = compiled.memory_analysis()
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return Step(
        function=step,
        compiled=compiled,
        state=jax.device_put(jax.jit(init)(), compiled.input_shardings[0][0]),
        batch=jax.device_put(batch, compiled.input_shardings[0][1:]),
        flops=_flops(lowered),
        memory_bytes=used - memory.alias_size_in_bytes,
    )


def _flops(lowered: Any) -> float:
    """XLA's count, by the CPU's client: a GPU's or TPU's makes none of what is not compiled."""
    module = lowered.compiler_ir("hlo").as_hlo_module()
    client = jax.devices("cpu")[0].client
    return jaxlib._jax.hlo_module_cost_analysis(client, module)["flops"]


def matmul_precision(precision: str) -> Any:
    """The context to trace and compile in."""
    return jax.default_matmul_precision(_MATMUL_PRECISION[precision])


def _normalized(images: jax.Array) -> jax.Array:
    return images.astype(jnp.float32) / 255 - 0.5


def _optax_sam(
    model: nn.Module, base: optax.GradientTransformation, image_shape: tuple[int, ...]
) -> tuple[Callable[[], Any], Any]:
    """The step that optax's documentation shows for its opaque mode, as lean as it can be."""
    adversary = optax.chain(optax.contrib.normalize(), optax.sgd(RHO))
    tx = optax.contrib.sam(base, adversary, sync_period=2, opaque_mode=True)

    def init() -> Any:
        images = jnp.zeros((1, *image_shape))
        variables: Any = model.init(jax.random.key(0), images, train=False)
        params = variables["params"]
        return params, variables.get("batch_stats", {}), tx.init(params), jnp.zeros(())

    def step(state: Any, images: jax.Array, labels: jax.Array) -> Any:
        params, running, opt_state, total = state

        def loss_fn(params: Any) -> Any:
            variables = {"params": params, "batch_stats": running}
            logits, moved = model.apply(
                variables, _normalized(images), train=True, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), moved.get("batch_stats", {})

        (loss, moved), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        updates, opt_state = tx.update(
            grads,
            opt_state,
            params,
            grad_fn=lambda params, i: jax.grad(loss_fn, has_aux=True)(params)[0],
        )
        return optax.apply_updates(params, updates), moved, opt_state, total + loss

    return init, jax.jit(step, donate_argnums=0)
