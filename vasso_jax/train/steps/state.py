"""The train state: what a run carries from step to step, and what a checkpoint holds."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from vasso_jax import optim
from vasso_jax.own_code import own_code
from vasso_jax.train.devices.sharding import in_cudnn_order, is_hopper_or_later, replicated, spread
from vasso_jax.train.rngs import stream_key
from vasso_jax.train.steps import ema
from vasso_jax.train.steps.fit import check_logits, check_params, init_optimizer

# What a step measures, the most important first: of the pass that is reported, and of the
# perturbation, see `vasso_jax.optim.Passes`.
OF_PASS = ("loss", "top1", "top5")
OF_PERTURBATION = (
    "perturbation_norm",
    "norm_over_rho",  # of the norm that the perturbation was to have
    "cosine",
    "loss_increase",  # perturbed minus clean loss
    "perturbed",  # share of the steps
    "nonfinite_gradients",  # how many
)
METRICS = (*OF_PASS, *OF_PERTURBATION)


class MetricSum(NamedTuple):
    """A sum of batch means over those steps that have one, and their number; float32 scalars."""

    total: jax.Array
    steps: jax.Array

    def plus(self, taken: jax.Array, value: jax.Array) -> "MetricSum":
        """The sum with `value`, where it was `taken`."""
        return MetricSum(self.total + jnp.where(taken, value, 0), self.steps + taken)


def means(sums: Mapping[str, MetricSum]) -> dict[str, float]:
    """Means over the steps that have the pass in question; waits for the device.

    Steps that reuse their direction have no clean pass; an epoch may have such steps only.
    """
    sums = jax.device_get(sums)
    measured = [name for name in METRICS if name in sums and sums[name].steps]
    means = {name: float(sums[name].total / sums[name].steps) for name in measured}
    if "nonfinite_gradients" in means:
        means["nonfinite_gradients"] = int(sums["nonfinite_gradients"].total)
    return means


class TrainState(flax.struct.PyTreeNode):
    """The state of a run after `step` optimizer steps.

    Attributes:
        step: int32 scalar. Data order, augmentation and learning rate depend on it and the seed.
        params: the unperturbed parameters w, float32.
        batch_stats: BatchNorm's running statistics, float32 (a network of one's own may add
            counters); empty for networks without it.
        opt_state: state of the optax chain, including VaSSO's average.
        ema: {"params", "batch_stats"}, their average over the steps (see `ema`); {} without one.
        key: uint32, the data of the PRNG key of augmentation and dropout.
        metric_sums: {name: `MetricSum`} since the epoch began, and `window_sums` since the last
            record of steps ({} without these). They are in the state so that a run
            resumed within an epoch reports the same as an unbroken one.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    ema: dict[str, Any]
    key: jax.Array
    metric_sums: dict[str, MetricSum]
    window_sums: dict[str, MetricSum]

    @property
    def averaged(self) -> "TrainState":
        """With the average in the place of the weights, in their dtypes."""
        weights = {"params": self.params, "batch_stats": self.batch_stats}
        return self.replace(**jax.tree.map(lambda x, w: x.astype(w.dtype), self.ema, weights))


def zero_metrics(
    tx: optax.GradientTransformation, params: Any, *, has_rho: bool
) -> dict[str, MetricSum]:
    """Metric sums at the start of a run: of what its steps can report."""
    names = [*OF_PASS]
    if optim.can_ask(tx, params):
        unknown = set() if has_rho else {"norm_over_rho"}
        if optim.is_single_pass(tx, params):
            unknown |= {"cosine", "loss_increase"}
        names += [name for name in OF_PERTURBATION if name not in unknown]
    return {
        name: MetricSum(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32)) for name in names
    }


def nodes_of(kind: type, tree: Any) -> list[Any]:
    """The outermost nodes of a type in a pytree."""

    def is_kind(node: Any) -> bool:
        return isinstance(node, kind)

    return list(filter(is_kind, jax.tree.leaves(tree, is_leaf=is_kind)))


def state_formats(state: TrainState, mesh: Mesh) -> TrainState:
    """How each array of a state (or its shape) is placed on the mesh, and in memory.

    Returns:
        A TrainState of NamedSharding or `jax.experimental.layout.Format`.
    """
    everywhere = jax.tree.map(lambda _: replicated(mesh), state)
    shardings = everywhere.replace(
        params=spread(state.params, mesh), opt_state=spread(state.opt_state, mesh)
    )
    if state.ema:
        shardings = shardings.replace(ema={**everywhere.ema, "params": shardings.params})
    on_hopper = is_hopper_or_later(mesh.devices.flat[0])
    return in_cudnn_order(shardings, state) if on_hopper else shardings


def create_state(
    model: nn.Module,
    tx: optax.GradientTransformation,
    image_shape: tuple[int, int, int],
    num_classes: int,
    seed: int | jax.Array,
    *,
    ema_decay: float = 0.0,
    has_rho: bool = False,
    has_windows: bool = False,
) -> TrainState:
    """The state at step 0; to be jitted with the wanted output shardings.

    Args:
        model: a Flax Linen module called as `(images, train) -> logits [B, num_classes]`.
        tx: the optimizer.
        image_shape: (H, W, C).
        num_classes: of the data set.
        seed: of the run, an int or uint32 scalar.
        ema_decay: of the average of the weights; 0: none.
        has_rho: whether it is known which norm the perturbation is to have.
        has_windows: whether steps are recorded within an epoch.

    Raises:
        ValueError: the network or the optimizer fails, or the network has another number of
            outputs, no parameters, or variables that are neither these nor BatchNorm's statistics.
    """
    images = jnp.zeros((1, *image_shape))
    with own_code("the network cannot be trained", "model.init(key, images, train=False)"):
        logits, variables = model.init_with_output(stream_key(seed, "init"), images, train=False)
    check_logits(logits, 1, num_classes)
    if others := sorted(variables.keys() - {"params", "batch_stats"}):
        raise ValueError(
            f"the network has variables {', '.join(others)}: only params and batch_stats are "
            "trained and saved"
        )
    params = variables.get("params", {})
    check_params(params)
    opt_state, batch_stats = init_optimizer(tx, params), variables.get("batch_stats", {})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        ema=ema.start(params, batch_stats, ema_decay),
        key=jax.random.key_data(stream_key(seed, "step")),
        metric_sums=zero_metrics(tx, params, has_rho=has_rho),
        window_sums=zero_metrics(tx, params, has_rho=has_rho) if has_windows else {},
    )
