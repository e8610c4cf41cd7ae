"""Microbatches, and statistics of each device: steps by hand, what is exchanged, and refusals."""

import functools
import re
from collections import Counter

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.compiled.collectives import collectives
from tests.models.compilation import quick_compilation
from tests.train.own_parts import Bare, Linear, config, halves
from vasso_jax.data import Batch
from vasso_jax.models.batch_norm import BatchNorm
from vasso_jax.models.layers import conv
from vasso_jax.optim import sam, vasso
from vasso_jax.train import check
from vasso_jax.train.config.optimizer import METHODS
from vasso_jax.train.devices.sharding import batch_sharding, make_mesh
from vasso_jax.train.input_pipeline import ready_batch
from vasso_jax.train.steps.groups import mean_over_microbatches, per_device
from vasso_jax.train.steps.state import create_state, state_formats
from vasso_jax.train.steps.step import make_train_step

pytestmark = pytest.mark.slow

SHAPE, SIZE, RHO, LR = (6, 6, 2), 64, 0.3, 0.1


class Net(nn.Module):
    """A convolution and a BatchNorm of the package, one of flax, and a count of the batches."""

    @nn.compact
    def __call__(self, x, train):
        count = self.variable("batch_stats", "count", jnp.zeros, (), jnp.int32)
        if train:
            count.value += 1
        x = conv(32, 3, 1, jnp.float32, nn.initializers.he_normal(), name="conv")(x)
        x = nn.relu(BatchNorm(name="bn")(x, train)).mean((1, 2))
        x = nn.Dense(40, name="hidden")(x)
        # Its fast variance, a difference of large numbers, would blur the comparison by hand.
        norm = nn.BatchNorm(not train, momentum=0.5, use_fast_variance=False, name="flax_bn")
        x = norm(x)
        return nn.Dense(3, name="head")(nn.relu(x))


class Plain(nn.Module):
    """Without BatchNorm, and with more activations than parameters."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(nn.Dense(64)(x.reshape(len(x), 36, 2)))
        return nn.Dense(3)(x.mean(1))


def as_float(images):
    return images.astype(jnp.float32) / 255


def a_batch(mesh):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (SIZE, *SHAPE)).astype(np.uint8)
    # The parts of the batch differ, in whatever way it is divided.
    images = images // (1 + np.arange(SIZE) % 7)[:, None, None, None].astype(np.uint8)
    return jax.device_put(Batch(images, rng.integers(0, 3, SIZE)), batch_sharding(mesh))


class Step:
    """A compiled step; `options` as for `make_train_step`."""

    def __init__(self, model, tx, mesh, **options):
        create = functools.partial(create_state, model, tx, SHAPE, 3, 0)
        formats = state_formats(jax.eval_shape(create), mesh)
        step = make_train_step(
            model,
            tx,
            take_batch=ready_batch,
            augment=lambda key, images: as_float(images),
            label_smoothing=0.0,
            mesh=mesh,
            formats=formats,
            **{"batch_stats": "clean", **options},
        )
        with quick_compilation():
            self.start = jax.device_get(jax.jit(create)())
        self.formats, self.batch = formats, a_batch(mesh)
        self.compiled = step.lower(self.placed(), self.batch).compile()
        self.program = self.compiled.as_text()

    def placed(self):
        """The state at the start; a step overwrites it."""
        return jax.device_put(self.start, self.formats)

    def states(self, steps):
        """The states before, between and after as many steps."""
        state, states = self.placed(), [self.start]
        for _ in range(steps):
            # Programs with collectives that queue up can deadlock on pretended CPU devices.
            state = jax.block_until_ready(self.compiled(state, self.batch))
            states.append(jax.tree.map(np.array, state))
        return states

    def exchanged(self):
        """How many arrays of which size are summed over the devices, and gathered."""
        found = collectives(self.program)
        return {
            kind: Counter(size for each in found if each.kind == kind for _, size in each.arrays)
            for kind in {each.kind for each in found}
        }

    def convolutions(self):
        assert not re.search(r"_group_count=(?!1\b)\d", self.program)
        return self.program.count(" convolution(")


@functools.cache
def step_of(**options):
    """Of `Net` with SAM on eight devices."""
    return Step(Net(), sam(optax.sgd(LR), RHO), make_mesh(options.pop("fsdp", 1)), **options)


def by_hand(before, batch, groups, batch_stats):
    """Parameters and statistics after a step, and the loss; each group by itself, then the mean."""

    @jax.jit
    def of_group(params, running, images, labels):
        def loss(params):
            logits, moved = Net().apply(
                {"params": params, "batch_stats": running},
                as_float(images),
                train=True,
                mutable=["batch_stats"],
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), moved["batch_stats"]

        return jax.value_and_grad(loss, has_aux=True)(params)

    def mean(params, running):
        images, labels = np.asarray(batch.images), np.asarray(batch.labels)
        with quick_compilation():
            found = [of_group(params, running, images[rows], labels[rows]) for rows in groups]
        return jax.tree.map(lambda *each: np.mean(each, 0), *jax.device_get(found))

    (loss, clean), g = mean(before.params, before.batch_stats)
    scale = RHO / np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(g)))
    at = jax.tree.map(lambda w, d: w + scale * d, before.params, g)
    (_, perturbed), g_at = mean(at, before.batch_stats)
    statistics = {
        "clean": clean,
        "perturbed": perturbed,
        "both": mean(at, clean)[0][1] if batch_stats == "both" else None,
    }
    return jax.tree.map(lambda w, d: w - LR * d, before.params, g_at), statistics[batch_stats], loss


ROWS = np.arange(SIZE)
# (options, the rows of each group)
GROUPS = [
    ({"batch_stats_over": "device"}, np.split(ROWS, 8)),
    ({"microbatches": 2, "fsdp": 4, "batch_stats": "perturbed"}, [ROWS[0::2], ROWS[1::2]]),
    (
        {"batch_stats_over": "device", "microbatches": 2, "batch_stats": "both"},
        [*np.split(ROWS[0::2], 8), *np.split(ROWS[1::2], 8)],
    ),
]


@pytest.mark.parametrize(("options", "groups"), GROUPS, ids=["device", "microbatches", "together"])
def test_a_step_is_the_mean_over_the_groups_each_by_its_own_statistics(options, groups):
    step = step_of(**options)
    before, after = step.states(1)
    params, statistics, loss = by_hand(
        before, step.batch, groups, options.get("batch_stats", "clean")
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5),
        (after.params, after.batch_stats),
        (params, statistics),
    )
    assert after.batch_stats["count"] == (2 if options.get("batch_stats") == "both" else 1)
    np.testing.assert_allclose(after.metric_sums["loss"].total, loss, rtol=1e-5)


def test_devices_exchange_no_statistics_but_those_that_run():
    before = step_of().start
    gradients = [x.size for x in jax.tree.leaves(before.params)]
    statistics = [x.size for x in jax.tree.leaves(before.batch_stats) if x.size > 1]
    reported = [1, 1, 1, 1]  # loss, top-1, top-5, and the loss of the perturbed pass
    own, of_batch = step_of(batch_stats_over="device"), step_of()
    # Those of the clean pass, which move the running ones, and of no other.
    assert own.exchanged() == {"all-reduce": Counter(2 * gradients + statistics + reported)}
    (summed,) = of_batch.exchanged().values()
    assert summed >= Counter(2 * (gradients + statistics) + reported)
    assert own.convolutions() == of_batch.convolutions()
    flops = [step.compiled.cost_analysis()["flops"] for step in (own, of_batch)]
    assert flops[0] == pytest.approx(flops[1], rel=0.02)


def test_microbatches_move_no_image_and_gather_no_parameter_again():
    spread = step_of(microbatches=2, fsdp=4, batch_stats="perturbed")
    assert spread.convolutions() == step_of().convolutions()
    found = spread.exchanged()
    assert set(found) == {"all-reduce", "all-gather"}
    large = [x.size for x in jax.tree.leaves(spread.start.params) if x.size >= 1024]
    assert found["all-gather"] == Counter(2 * large)  # once per pass, and not in the loop:
    loops = spread.program[: spread.program.index("\nENTRY")]
    assert "all-reduce(" in loops
    assert "all-gather" not in loops


def test_without_batchnorm_microbatches_save_memory_and_change_nothing_but_rounding():
    tx, mesh = vasso(optax.sgd(LR), RHO, theta=0.4), make_mesh(devices=jax.devices()[:1])
    whole, parts = (Step(Plain(), tx, mesh, microbatches=k) for k in (1, 8))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=3e-7),
        parts.states(2)[-1],
        whole.states(2)[-1],
    )
    memory = [step.compiled.memory_analysis().temp_size_in_bytes for step in (whole, parts)]
    assert memory[1] < 0.2 * memory[0]


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"none"}))
def test_every_method_takes_microbatches(method):
    """Traced: no method needs a derivative that the mean over microbatches does not have."""
    made = config(method={"name": method}, microbatches=2)
    experiment = check(made, model=Linear(2), dataset=halves()).open(halves())
    program, pipeline = experiment.program, experiment.pipeline
    item = next(iter(pipeline.training(0)))
    jax.eval_shape(program.train_step, program.abstract_state, item)


class Noise(nn.Module):
    """Draws a number; the running statistics are the number and its square."""

    @nn.compact
    def __call__(self, x, train):
        drawn = self.variable("batch_stats", "drawn", jnp.zeros, 2)
        if train:
            number = jax.random.normal(self.make_rng("dropout"))
            drawn.value = jnp.stack([number, number**2])
        return nn.Dense(3)(x.reshape(len(x), -1))


@pytest.mark.parametrize("options", [{"microbatches": 2}, {"batch_stats_over": "device"}], ids=str)
def test_each_group_has_its_own_dropout(options):
    with quick_compilation():
        after = Step(Noise(), optax.sgd(LR), make_mesh(), **options).states(1)[-1]
    mean, of_squares = after.batch_stats["drawn"]
    assert of_squares - mean**2 > 1e-3


def test_what_depends_on_no_effect_is_refused():
    made = config(batch_stats_over="device")
    with pytest.raises(ValueError, match="device has no effect on one device: leave it out"):
        check(made, model=Linear(2), dataset=halves(), devices=jax.devices()[:1])
    plan = check(made, model=Bare(2), dataset=halves())
    with pytest.raises(ValueError, match="the network has no running statistics; leave it out"):
        plan.open(halves())


def test_per_device_gives_the_logits_in_order():
    mesh = make_mesh()
    images = jnp.arange(16.0).reshape(16, 1)

    def forward(params, images, running, key):
        return params * images, {"mean": running["mean"] + images.mean()}

    logits, moved = jax.jit(per_device(forward, mesh))(
        2.0, images, {"mean": jnp.float32(1)}, jax.random.key(0)
    )
    np.testing.assert_array_equal(logits, 2 * images)
    assert moved["mean"] == 1 + images.mean()


def test_the_mean_over_microbatches_has_the_gradient_of_the_whole_batch():
    def loss(w, x, running):
        del running
        return jnp.sin(w * x).mean(), {"largest": x.max(), "seen": jnp.int32(1)}

    x = jnp.arange(8.0)
    mean = mean_over_microbatches(loss, make_mesh())

    def scaled(w, of, x):
        value, aux = of(w, x, {})
        return 3 * value, aux

    grad = jax.grad(scaled, has_aux=True)
    # A line search asks for the value alone.
    np.testing.assert_allclose(mean(2.0, x.reshape(2, 4), {})[0], loss(2.0, x, {})[0], rtol=1e-5)
    found, aux = grad(2.0, mean, x.reshape(2, 4))
    np.testing.assert_allclose(found, grad(2.0, loss, x)[0], rtol=1e-5)
    assert aux == {"largest": 5, "seen": 1}  # the mean of 3 and 7; of an integer, the first
