"""From the fields of a config to a run's parts, for what the other tests of the trainer miss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.train.networks import NAME
from vasso_jax import data, optim
from vasso_jax.train import check, default_config
from vasso_jax.train.config.optimizer import METHODS
from vasso_jax.train.presets import digits
from vasso_jax.train.steps.program import DataSpec

SPEC = DataSpec(1438, 10, (8, 8, 1), (0.5,), (0.25,))


def config(section, **fields):
    config = digits("vasso")
    config[section].update(fields)
    return config


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_a_train_step(method):
    made = digits(method)
    made.model = {"name": NAME}
    program = check(made).program(SPEC)
    batch = data.Batch(jnp.zeros((128, 8, 8, 1), jnp.uint8), jnp.zeros(128, jnp.int32))
    after = jax.eval_shape(program.train_step, program.abstract_state, batch)
    expected = program.abstract_state
    assert jax.tree.structure(after) == jax.tree.structure(expected)
    for new, old in zip(jax.tree.leaves(after), jax.tree.leaves(expected), strict=True):
        assert (new.shape, new.dtype) == (old.shape, old.dtype)


def run(steps, config):
    """Passes and optimizer state after steps on a matrix and a vector, one step per epoch."""
    tx = check(config).make_optimizer(1).tx
    w = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    state = tx.init(w)

    def loss(w, i, t):
        return (t + 1) * optax.tree.vdot(w, jax.tree.map(jnp.ones_like, w))

    for t in range(steps):
        passes, _, state = optim.value_and_update(loss, tx)(w, state, t)
    return passes, state


@pytest.mark.slow
def test_refresh_and_dtype_reach_the_optimizer():
    fields = {"theta": 1.0, "refresh_every": 2, "accumulator_dtype": "bfloat16"}
    _, state = run(2, config("method", **fields))
    direction = optax.tree.get(state, "direction")
    assert direction["bias"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(direction["bias"].astype(jnp.float32), 1)


def test_vectors_can_be_left_unperturbed():
    points = []
    for fields in ({}, {"mask": "matrices"}):
        tx = check(config("method", **fields)).make_optimizer(11).tx
        w = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
        tx.update(w, tx.init(w), w, grad_fn=lambda p, i: points.append(p) or p)
    assert np.all(points[0]["bias"] > 1)
    np.testing.assert_array_equal(points[1]["bias"], 1)
    np.testing.assert_allclose(points[1]["kernel"], 1 + 0.1 / 2, rtol=1e-6)


def test_rho_follows_the_learning_rate():
    for steps, rho in ((1, 0.1), (3, 0.06), (5, 0.02)):
        made = config("rho_schedule", rho_min=0.02)
        made.epochs = 4
        passes, _ = run(steps, made)
        np.testing.assert_allclose(passes.perturbation_norm, rho, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("window", "active"),
    [
        ({"start_epoch": 2}, [2, 3]),
        ({"end_epoch": 1.5}, [0, 1]),
        ({"start_epoch": 1, "end_epoch": 3}, [1, 2]),
    ],
)
def test_a_window_in_epochs(window, active):
    made = config("window", **window)
    made.epochs = 4
    tx = check(made).make_optimizer(1).tx
    w = {"kernel": jnp.ones((2, 2))}
    state, perturbed = tx.init(w), []
    for t in range(4):
        passes, _, state = optim.value_and_update(lambda w: jnp.sum(w["kernel"]), tx)(w, state)
        perturbed += [t] * bool(passes.perturbed.taken)
    assert perturbed == active
    assert "epochs" in check(made).optimizer_summary


def test_wsam_is_told_the_learning_rate():
    made = digits("wsam")
    made.base = {"name": "sgd", "lr": 0.5, "momentum": 0.0, "weight_decay": 0.0}
    made.epochs = 2
    optimizer = check(made).make_optimizer(1)
    w = {"kernel": jnp.array([3.0, 4.0])}
    state = optimizer.tx.init(w)
    for t in range(2):
        _, updates, state = optim.value_and_update(
            lambda w: jnp.sum(w["kernel"] ** 2) / 2, optimizer.tx
        )(w, state)
        # The gradient at w + eps is longer by rho = 0.05; it weighs gamma / (1 - gamma) = 9.
        expected = -optimizer.schedule(t) * w["kernel"] * (1 + 9 * 0.05 / 5)
        np.testing.assert_allclose(updates["kernel"], expected, rtol=1e-5)


def test_the_settings_are_the_config_completed_by_the_constructors_defaults():
    made = digits("vasso")
    made.base.lr = 1  # an integer where a number is wanted
    settings = check(made).settings
    assert settings["method"] == {
        "name": "vasso",
        "rho": 0.1,
        "theta": 0.4,
        "mask": None,
        "refresh_every": None,
        "refresh": None,
        "active": None,
        "ascent_steps": None,
        "accumulator_dtype": None,
    }
    assert settings["base"]["lr"] == 1
    assert settings["base"]["momentum"] == 0.9
    assert settings["model"] == {"name": "wrn10_1", "dtype": "float32", "remat": False}
    assert settings["label_noise"] == settings["rho_schedule"] == settings["window"] == {}


def test_a_method_that_draws_takes_the_seed_of_the_run_unless_it_has_one():
    made = digits("ssam")
    made.method.update({"choice": "random", "mask_every": 1})
    made.seed = 3
    masks = []
    for own in (None, 3, 4):
        made.method.seed = own
        masks.append(optax.tree.get(run(1, made)[1], "mask")["kernel"].tolist())
        assert check(made).settings["method"]["seed"] == (own or 3)
    assert masks[0] == masks[1]


def test_a_plan_can_be_opened_on_several_data_sets():
    plan = check(digits("sam"))
    whole = plan.source.load()
    half = data.from_arrays("half", (x[:700] for x in whole.train), whole.test)
    steps = [plan.open(dataset).total_steps for dataset in (whole, half)]
    assert steps == [30 * 11, 30 * 5]


def test_what_the_default_config_holds():
    made = default_config()
    with pytest.raises(AttributeError):
        made.epoch = 3
    made.method.rho = 0.3
    made.method = {"name": "sam"}
    made.method.rho = 0.2
    assert check(made).settings["method"]["rho"] == 0.2


def test_a_batch_size_per_device_is_that_of_all_devices():
    made = digits("vasso")
    made.batch_size_per_device = 3
    plan = check(made, devices=jax.devices()[:4])
    assert plan.options.batch_size == plan.settings["batch_size"] == 12
    # A run is the same however it was said.
    made.update({"batch_size": 12, "batch_size_per_device": 0})
    assert check(made, devices=jax.devices()[:4]).settings == plan.settings
    made.batch_size_per_device = -1
    with pytest.raises(ValueError, match="batch_size_per_device must be >= 0"):
        check(made)
