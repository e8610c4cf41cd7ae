"""Which pass moves the running statistics of BatchNorm: by hand, and refused without effect."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.train.own_parts import HERE, Bare, Linear, config, halves, sam_hidden, sam_twice
from tests.train.tiny import LR, RHO, SHAPE, as_float, train_once
from vasso_jax import data
from vasso_jax.models.batch_norm import BatchNorm
from vasso_jax.optim import sam
from vasso_jax.train import UsageError, check, train
from vasso_jax.train.devices.sharding import make_mesh
from vasso_jax.train.input_pipeline import ready_batch
from vasso_jax.train.steps.state import create_state
from vasso_jax.train.steps.step import make_train_step


class Behind(nn.Module):
    """A BatchNorm of flax behind a linear layer, so that its input depends on the parameters."""

    num_classes: int

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(4, name="first")(x.reshape(len(x), -1))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5, name="norm")(x)
        return nn.Dense(self.num_classes, name="head")(x)


@pytest.mark.parametrize("which", ["perturbed", "both"])
@pytest.mark.parametrize(
    ("sections", "parts", "message"),
    [
        ({}, {}, "method none has no perturbed pass"),
        ({"method": {"name": f"{HERE}:sam_hidden"}}, {}, "reports no perturbed pass"),
        ({}, {"tx": sam_hidden(optax.sgd(0.1))}, "reports no perturbed pass"),
        ({}, {"tx": optax.adam(0.1)}, "reports no perturbed pass"),
        ({"method": {"name": "sam", "refresh": "descent"}}, {"model": Behind(2)}, "one evaluation"),
        ({"method": {"name": "sam"}}, {"model": Bare(2)}, "network has no running statistics"),
    ],
)
def test_a_choice_of_statistics_without_effect_is_refused(
    tmp_path, which, sections, parts, message
):
    made = config(batch_stats=which, **sections)
    parts = {"model": Linear(2), "dataset": halves()} | parts
    with pytest.raises(UsageError, match=f"batch_stats={which} has no effect: .*{message}"):
        train(made, str(tmp_path / "run"), **parts)
    assert not (tmp_path / "run/config.json").exists()


def test_method_none_is_told_from_a_given_transform_before_any_data():
    made = config(batch_stats="both", data={"name": f"{HERE}:pair"})
    with pytest.raises(ValueError, match="method none has no perturbed pass"):
        check(made)
    check(made, tx=sam_twice(optax.sgd(0.1), factor=1.0))


def test_what_the_optimizer_alone_tells_is_told_before_any_data():
    made = config(batch_stats="both", data={"name": f"{HERE}:pair"})
    made.method = {"name": "sam"}
    check(made)
    with pytest.raises(ValueError, match="reports no perturbed pass"):
        check(made, tx=sam_hidden(optax.sgd(0.1)))
    made.method = {"name": "sam", "refresh": "descent"}
    with pytest.raises(ValueError, match="a step of this method is one evaluation"):
        check(made)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["clean", "perturbed", "both"])
def test_running_statistics_of_a_run_are_the_sequence_by_hand(which):
    rho, steps, rng = 0.5, 4, np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (32, 4, 4, 1)).astype(np.uint8), rng.integers(0, 2, 32)
    dataset = data.from_arrays("random", (images, labels), (images, labels))
    made, model = config(method={"name": "sam", "rho": rho}, batch_stats=which), Behind(2)
    experiment = check(made, model=model, dataset=dataset).open(dataset)
    program, pipeline = experiment.program, experiment.pipeline
    state = program.create_state()
    # In training, outputs do not depend on the running statistics: any will do.
    start = jax.tree.map(np.array, state.batch_stats)

    def pixels(batch):
        return data.normalize(batch.images, dataset.mean, dataset.std)

    @jax.jit
    def perturbed(params, batch):
        def loss(params):
            variables = {"params": params, "batch_stats": start}
            logits, _ = model.apply(variables, pixels(batch), True, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()

        g = jax.grad(loss)(params)
        return jax.tree.map(lambda w, d: w + rho * d / optax.tree.norm(g), params, g)

    def seen(params, batch):
        """Mean and variance of what reaches the BatchNorm."""
        flat = np.asarray(pixels(batch)).reshape(len(batch.labels), -1)
        inputs = flat @ np.asarray(params["first"]["kernel"]) + np.asarray(params["first"]["bias"])
        return np.stack([inputs.mean(0), inputs.var(0)])

    running = np.stack([np.zeros(4), np.ones(4)])
    for step, item in zip(range(steps), pipeline.training(0), strict=False):
        batch = pipeline.take_batch(item, jnp.int32(step))
        at_w, at_eps = seen(state.params, batch), seen(perturbed(state.params, batch), batch)
        assert np.abs(at_w - at_eps).max() > 0.01
        for statistics in {"clean": [at_w], "perturbed": [at_eps], "both": [at_w, at_eps]}[which]:
            running = 0.5 * running + 0.5 * statistics
        state = program.train_step(state, item)
        norm = state.batch_stats["norm"]
        np.testing.assert_allclose(np.stack([norm["mean"], norm["var"]]), running, 1e-4, 1e-4)


class TinyOurs(nn.Module):
    """A BatchNorm of the package over the pixels, and a linear layer."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(4, name="first")(x.reshape(len(x), -1))
        return nn.Dense(3, name="head")(BatchNorm(name="bn")(x, train=train))


class TinyFlax(nn.Module):
    """The same with flax's BatchNorm, twice, of different momentum."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(4, name="first")(x.reshape(len(x), -1))
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.7, name="bn")(x))
        x = nn.Dense(4, name="second")(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.99, name="bn2")(x)
        return nn.Dense(3, name="head")(x)


class TinyCounting(nn.Module):
    """The first, with a count of the batches and a flag beside the averages."""

    @nn.compact
    def __call__(self, x, train):
        count = self.variable("batch_stats", "count", jnp.zeros, (), jnp.int32)
        begun = self.variable("batch_stats", "begun", jnp.zeros, (), jnp.bool_)
        if train:
            count.value = count.value + 1
            begun.value = jnp.ones((), jnp.bool_)
        return TinyOurs()(x, train)


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [TinyOurs, pytest.param(TinyFlax, marks=pytest.mark.weekly), TinyCounting],
)
def test_running_statistics_follow_the_chosen_passes(batch, network):
    model, tx = network(), sam(optax.sgd(LR), RHO)
    before, _ = train_once(model, tx, batch)

    def moved(params, running):
        variables = {"params": params, "batch_stats": running}
        _, new = model.apply(variables, as_float(batch[0]), train=True, mutable=["batch_stats"])
        return new["batch_stats"]

    def loss(params):
        variables = {"params": params, "batch_stats": before.batch_stats}
        logits, _ = model.apply(variables, as_float(batch[0]), True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

    g = jax.grad(loss)(before.params)
    scale = RHO / optax.tree.norm(g)
    perturbed = jax.tree.map(lambda w, d: w + scale * d, before.params, g)
    expected = {
        "clean": moved(before.params, before.batch_stats),
        "perturbed": moved(perturbed, before.batch_stats),
        "both": moved(perturbed, moved(before.params, before.batch_stats)),
    }
    for which, statistics in expected.items():
        _, after = train_once(model, tx, batch, batch_stats=which)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            after.batch_stats,
            statistics,
        )
        if which != "perturbed" and network is not TinyOurs:
            continue  # a plain optimizer's step does not depend on the network's kind of statistics
        # A plain optimizer has one pass, whose statistics count.
        _, plain = train_once(model, optax.sgd(LR), batch, batch_stats=which)
        jax.tree.map(
            # Flax's is two normalisations deep: jitted and eager sums differ by more roundings.
            lambda a, b: np.testing.assert_allclose(
                a, b, rtol=1e-6 if network is not TinyFlax else 1e-5, atol=1e-8
            ),
            plain.batch_stats,
            expected["clean"],
        )


@pytest.mark.slow
def test_the_decay_of_running_statistics_costs_no_pass(batch):
    def flops(which):
        model, tx = TinyFlax(), sam(optax.sgd(LR), RHO)
        step = make_train_step(
            model,
            tx,
            take_batch=ready_batch,
            augment=lambda key, images: as_float(images),
            label_smoothing=0.0,
            batch_stats=which,
            mesh=make_mesh(devices=jax.devices()[:1]),
        )
        state = jax.eval_shape(lambda: create_state(model, tx, SHAPE, 3, 0))
        return step.lower(state, batch).compile().cost_analysis()["flops"]

    assert flops("both") < 1.05 * flops("clean")
