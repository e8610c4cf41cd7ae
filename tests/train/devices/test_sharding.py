"""Parameters and optimizer state spread over devices: where they lie, and that training agrees."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.train.own_parts import Linear, config, halves
from vasso_jax.data import Batch, EvalBatch
from vasso_jax.models.batch_norm import BatchNorm
from vasso_jax.models.layers import conv
from vasso_jax.optim import vasso
from vasso_jax.train import check
from vasso_jax.train.checkpoints.checkpoint import Checkpoints, find_checkpoint
from vasso_jax.train.checkpoints.weights import start_from
from vasso_jax.train.devices.sharding import (
    batch_sharding,
    check_spread,
    in_cudnn_order,
    is_hopper_or_later,
    make_mesh,
    spread,
    with_shardings,
)
from vasso_jax.train.input_pipeline import ready_batch
from vasso_jax.train.steps.state import create_state, state_formats
from vasso_jax.train.steps.step import make_eval_step, make_train_step

SHAPE, BATCH = (8, 8, 3), 16


class Net(nn.Module):
    """A convolution, BatchNorm and two linear layers; the last one, of 640 weights, is small."""

    @nn.compact
    def __call__(self, x, train):
        x = conv(64, 3, 1, jnp.float32, nn.initializers.he_normal(), name="conv")(x)
        x = nn.relu(BatchNorm(name="bn")(x, train)).mean((1, 2))
        return nn.Dense(10, name="head")(nn.relu(nn.Dense(64, name="hidden")(x)))


class Run:
    """The network above with VaSSO on four devices; same weights, same batches."""

    def __init__(self, fsdp, cudnn_order=False):
        self.mesh = make_mesh(fsdp, jax.devices()[:4])
        self.model, self.tx = Net(), vasso(optax.adamw(1e-3), rho=0.1, theta=0.4)
        shapes = jax.eval_shape(self._create)
        self.shardings = state_formats(shapes, self.mesh)
        formats = in_cudnn_order(self.shardings, shapes) if cudnn_order else self.shardings
        self.abstract_state = with_shardings(shapes, formats)
        self.state = jax.jit(self._create, out_shardings=formats)()
        self._step = make_train_step(
            self.model,
            self.tx,
            take_batch=ready_batch,
            augment=lambda key, images: images.astype(jnp.float32) / 255,
            label_smoothing=0.0,
            batch_stats="clean",
            mesh=self.mesh,
            formats=formats,
        )

    def _create(self):
        return create_state(self.model, self.tx, SHAPE, 10, 0)

    def batch(self, step):
        rng = np.random.default_rng(step)
        images = rng.integers(0, 256, (BATCH, *SHAPE)).astype(np.uint8)
        labels = rng.integers(0, 10, BATCH).astype(np.int32)
        return jax.device_put(Batch(images, labels), batch_sharding(self.mesh))

    def losses(self, steps):
        total, losses = float(self.state.metric_sums["loss"].total), []
        for step in range(steps):
            # Programs with collectives that queue up can deadlock on pretended CPU devices.
            self.state = jax.block_until_ready(self._step(self.state, self.batch(step)))
            losses.append(float(self.state.metric_sums["loss"].total) - total)
            total += losses[-1]
        return losses


@pytest.fixture(scope="module")
def copied():
    """A run with a copy of everything on every device, after three steps, and its losses."""
    run = Run(1)
    return run, run.losses(3)


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [2, 4])
def test_spread_parameters_take_the_same_steps_and_stay_spread(copied, fsdp):
    run = Run(fsdp)
    before = run.state
    np.testing.assert_allclose(run.losses(3), copied[1], rtol=1e-4)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.params))  # donated
    kept = jax.tree.map(
        lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), run.state, run.shardings
    )
    assert all(jax.tree.leaves(kept))
    average = optax.tree.get(run.state.opt_state, "direction")
    for params in (run.state.params, average, optax.tree.get(run.state.opt_state, "mu")):
        shapes = jax.tree.map(lambda x: x.addressable_shards[0].data.shape, params)
        assert shapes["conv"]["kernel"] == (3, 3, 3, 64 // fsdp)
        assert shapes["hidden"] == {"kernel": (64 // fsdp, 64), "bias": (64,)}
        assert shapes["head"]["kernel"] == (64, 10)
    statistics = jax.tree.leaves((run.state.batch_stats, run.state.metric_sums))
    assert all(x.is_fully_replicated for x in statistics)


def is_in_cudnn_order(state):
    """Whether this holds for every kernel of the convolution and for nothing else."""
    orders = [(x.shape, x.format.layout.major_to_minor) for x in jax.tree.leaves(state)]
    kernels = [order for shape, order in orders if shape == (3, 3, 3, 64)]
    assert len(kernels) == 4  # the parameter, VaSSO's average, and AdamW's two
    others = [order for shape, order in orders if shape != (3, 3, 3, 64)]
    return {*kernels} == {(3, 0, 1, 2)} and all([*order] == sorted(order) for order in others)


@pytest.mark.slow
def test_the_order_in_memory_of_gpus_changes_no_number_and_no_checkpoint(copied, tmp_path):
    run = Run(2, cudnn_order=True)
    assert is_in_cudnn_order(run.state)
    before = run.state
    np.testing.assert_allclose(run.losses(3), copied[1], rtol=1e-4)
    assert is_in_cudnn_order(run.state)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.params))  # donated
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(3, run.state)
    checkpoints.wait()
    resumed, elsewhere = Run(2, cudnn_order=True), Run(1)
    started = start_from(find_checkpoint(tmp_path), resumed.state, keep_head=True)
    jax.tree.map(np.testing.assert_array_equal, started.params, run.state.params)
    assert is_in_cudnn_order(started)
    for other in (resumed, elsewhere):
        other.state = checkpoints.restore(3, other.abstract_state).tree
        jax.tree.map(np.testing.assert_array_equal, other.state, run.state)
    checkpoints.close()
    assert is_in_cudnn_order(resumed.state)
    assert resumed.losses(1) == run.losses(1)
    assert is_in_cudnn_order(resumed.state)


@pytest.mark.parametrize(
    ("platform", "capability", "expected"),
    [
        ("gpu", "9.0", True),
        ("gpu", "10.0", True),
        ("gpu", "8.0", False),
        ("gpu", "gfx90a", False),
        ("cpu", None, False),
        ("tpu", None, False),
    ],
)
def test_the_order_is_that_of_gpus_of_which_it_is_known(platform, capability, expected):
    device = types.SimpleNamespace(platform=platform, compute_capability=capability)
    assert is_hopper_or_later(device) == expected


@pytest.mark.slow
def test_evaluation_and_checkpoints_do_not_depend_on_how_it_lies(copied, tmp_path):
    ours, theirs = copied[0], Run(2)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(3, ours.state)
    checkpoints.wait()
    restored = checkpoints.restore(3, theirs.abstract_state).tree
    checkpoints.close()
    started = start_from(find_checkpoint(tmp_path), theirs.state, keep_head=True)
    for state in (restored, started):
        jax.tree.map(np.testing.assert_array_equal, state.params, ours.state.params)
        same = jax.tree.map(lambda x, s: x.sharding == s, state.params, theirs.shardings.params)
        assert all(jax.tree.leaves(same))

    def evaluate(run, state):
        valid = jax.device_put(np.ones(BATCH, bool), batch_sharding(run.mesh))
        step = make_eval_step(
            run.model,
            take_batch=ready_batch,
            normalize=lambda images: images.astype(jnp.float32) / 255,
            mesh=run.mesh,
        )
        return jax.block_until_ready(step(state, EvalBatch(*run.batch(0), valid)))

    sums, expected = evaluate(theirs, restored), evaluate(ours, ours.state)
    np.testing.assert_allclose(sums["loss"], expected["loss"], rtol=1e-5)
    assert sums["top1"] == expected["top1"]


def test_the_largest_axis_that_fsdp_divides_is_split_and_the_last_only_if_no_other():
    mesh = make_mesh(4, jax.devices()[:4])
    cases = {
        (384, 1536): ("fsdp",),
        (3, 3, 64, 128): (None, None, "fsdp"),
        (8, 512, 16): (None, "fsdp"),
        (3, 3, 3, 64): (None, None, None, "fsdp"),
        (33, 33): (),
        (1023,): (),
        (1024,): ("fsdp",),
        (): (),
    }
    for shape, spec in cases.items():
        array = jax.ShapeDtypeStruct(shape, jnp.float32)
        assert spread(array, mesh).spec == jax.sharding.PartitionSpec(*spec), shape


def test_the_mesh_has_all_devices_and_refuses_what_cannot_be():
    assert dict(make_mesh(2).shape) == {"data": 4, "fsdp": 2}
    few = {"kernel": jax.ShapeDtypeStruct((31, 31), "float32")}
    with pytest.raises(ValueError, match=r"fsdp=2 has no effect: no array .* 1,024 or more"):
        check_spread(few, make_mesh(2))
    with pytest.raises(ValueError, match="fsdp=2 has no effect"):
        check(config(fsdp=2), model=Linear(2), dataset=halves()).open(halves())
    check_spread(few, make_mesh(1))
    check_spread(few | {"hidden": jax.ShapeDtypeStruct((32, 32), "float32")}, make_mesh(2))
    for fsdp, message in (
        (0, "fsdp must be at least 1, got 0"),
        (3, "fsdp=3 does not divide the 8 devices: choose a divisor of 8"),
        (16, "fsdp=16 does not divide"),
    ):
        with pytest.raises(ValueError, match=message):
            make_mesh(fsdp)


def test_parameters_are_not_spread_over_several_tpu_slices():
    devices = [types.SimpleNamespace(platform="tpu", slice_index=i // 4) for i in range(8)]
    with pytest.raises(ValueError, match="fsdp=8 does not divide the 4 devices of a slice"):
        make_mesh(8, devices)
    devices = [types.SimpleNamespace(platform="tpu") for _ in range(8)]
    with pytest.raises(ValueError, match="fsdp=3 does not divide the 8 devices:"):
        make_mesh(3, devices)
