"""The step of optax.contrib.sam, to compare with."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.harness.train_step import BASE_ALONE, Step, Workload, compile_step
from vasso_jax import data
from vasso_jax.train.devices.sharding import batch_sharding, replicated


def make_optax_sam_step(workload: Workload) -> Step:
    """The step that optax's documentation shows for the opaque mode, without any extras.

    Network and base optimizer are those of the trainer's step; rho is that of the trainer's `sam`.

    Args:
        workload: what to train on.

    Raises:
        ValueError: see `Workload.plan`.
    """
    plan, spec = workload.plan(BASE_ALONE), workload.spec
    model = plan.make_model(spec.num_classes)
    base = plan.make_optimizer(1).tx
    rho = workload.plan("sam").settings["method"]["rho"]
    adversary = optax.chain(optax.contrib.normalize(), optax.sgd(rho))
    tx = optax.contrib.sam(base, adversary, sync_period=2, opaque_mode=True)

    def normalize(images: jax.Array) -> jax.Array:
        return data.normalize(images, spec.mean, spec.std)

    def init() -> Any:
        images = jnp.zeros((1, *spec.image_shape))
        variables: Any = model.init(jax.random.key(0), images, train=False)
        params = variables["params"]
        return params, variables.get("batch_stats", {}), tx.init(params), jnp.zeros(())

    def step(state: Any, batch: data.Batch) -> Any:
        params, running, opt_state, total = state

        def loss_fn(params: Any) -> Any:
            variables = {"params": params, "batch_stats": running}
            logits, moved = model.apply(
                variables, normalize(batch.images), train=True, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
            return losses.mean(), moved.get("batch_stats", {})

        (loss, moved), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        updates, opt_state = tx.update(
            grads,
            opt_state,
            params,
            grad_fn=lambda params, i: jax.grad(loss_fn, has_aux=True)(params)[0],
        )
        return optax.apply_updates(params, updates), moved, opt_state, total + loss

    everywhere = replicated(plan.mesh)
    state = jax.jit(init, out_shardings=everywhere)()
    batch = jax.device_put(workload.batch, batch_sharding(plan.mesh))
    function = jax.jit(step, donate_argnums=0, out_shardings=everywhere)
    return compile_step(workload, function, state, batch)
