"""The average of the weights: its equation, its evaluation, and where it is taken from."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.train.own_parts import Linear, config, halves
from tests.train.test_validation import hard
from tests.train.tiny import Tiny, train_once
from vasso_jax import data, load_run
from vasso_jax.runs import read_run
from vasso_jax.train import UsageError, train
from vasso_jax.train.steps import ema

pytestmark = pytest.mark.slow

MODEL = Linear(2)
FIELDS = {"base": {"name": "sgd", "lr": 0.5}, "epochs": 4, "ema_decay": 0.9}


def test_it_is_the_equation_with_its_ramp():
    weights = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    params, stats = {"w": jnp.array(weights[0])}, {"n": jnp.int32(0)}
    average = ema.start(params, stats, 0.8)
    expected = weights[0].astype(np.float64)
    for t, w in enumerate(weights[1:]):
        average = ema.update(average, {"w": w}, {"n": jnp.int32(t)}, 0.8, jnp.int32(t))
        beta = min(0.8, (1 + t) / (10 + t))
        expected = beta * expected + (1 - beta) * w
        np.testing.assert_allclose(average["params"]["w"], expected, rtol=1e-5)
        assert average["batch_stats"]["n"] == t
    assert ema.start(params, stats, 0.0) == ema.update({}, params, stats, 0.0, jnp.int32(0)) == {}


def test_it_moves_by_steps_that_are_lost_in_the_dtype_of_the_weights():
    """Each step of 0.001 of a distance of 0.1 is less than bfloat16 resolves near 1."""
    start, end = ({"w": jnp.array([x], jnp.bfloat16)} for x in (0.8984375, 1.0))
    average = ema.start(start, {}, 0.999)
    for _ in range(200):
        average = ema.update(average, end, {}, 0.999, jnp.int32(10**6))
    expected = 1 - 0.999**200 * (1 - 0.8984375)
    np.testing.assert_allclose(average["params"]["w"], [expected], rtol=1e-5)


def test_a_step_averages_parameters_and_running_statistics():
    rng = np.random.default_rng(0)
    batch = data.Batch(
        rng.integers(0, 256, (16, 4, 4, 1), dtype=np.uint8), np.arange(16, dtype=np.int32) % 3
    )
    before, after = train_once(Tiny(), optax.sgd(0.1), batch, ema_decay=0.9)
    # At step 0 the old weights have the share 1/10. The state of `train_once` has no average yet.
    started = ema.start(before.params, before.batch_stats, 0.9)
    expected = ema.update(started, after.params, after.batch_stats, 0.9, jnp.int32(0))
    assert after.ema == {}
    moved = jax.tree.map(
        lambda old, new: 0.1 * old + 0.9 * new,
        {"params": before.params, "batch_stats": before.batch_stats},
        {"params": after.params, "batch_stats": after.batch_stats},
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), expected, moved)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished")
    made = config(validation={"share": 0.25}, **FIELDS)
    return workdir, train(made, str(workdir), model=MODEL, dataset=hard())


@pytest.mark.parametrize("average", [None, True, False])
def test_it_is_evaluated_beside_the_weights(finished, average):
    workdir, result = finished
    images, labels = hard().test
    run = load_run(workdir, average=average, model=MODEL)
    accuracy = (run.predict(images).argmax(1) == labels).mean()
    key = "test_top1" if average is False else "ema_test_top1"
    assert accuracy == pytest.approx(result[key])
    probabilities = run.predict(images)[np.arange(len(labels)), labels]
    name = "loss" if average is False else "ema_loss"
    assert -np.log(probabilities).mean() == pytest.approx(read_run(workdir).last(name), rel=1e-4)


def test_it_ranks_the_checkpoints(finished):
    workdir, result = finished
    run = read_run(workdir)
    averages = [record["ema_top1"] for record in run.validations]
    assert result["best_ema_validation_top1"] == max(averages)
    assert averages[run.best_epoch - 1] == max(averages)
    images, labels = hard().test
    for average, key in ((True, "best_ema_test_top1"), (False, "best_test_top1")):
        best = load_run(workdir, "best", average=average, model=MODEL)
        accuracy = (best.predict(images).argmax(1) == labels).mean()
        assert accuracy == pytest.approx(result[key])
        assert accuracy == pytest.approx(run.best(key[5:].replace("test_", "")))


def test_a_run_may_start_from_it(finished, tmp_path):
    workdir, result = finished
    made = config(epochs=0, init_from=str(workdir))
    evaluated = train(made, str(tmp_path / "a"), model=MODEL, dataset=hard())
    assert evaluated["test_top1"] == pytest.approx(result["ema_test_top1"])
    # The new average begins there, too.
    made = config(epochs=0, init_from=str(workdir), ema_decay=0.9)
    evaluated = train(made, str(tmp_path / "b"), model=MODEL, dataset=hard())
    assert evaluated["test_top1"] == evaluated["ema_test_top1"]
    assert evaluated["test_top1"] == pytest.approx(result["ema_test_top1"])


def test_resumed_it_is_the_same(finished, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*_, **__):
        raise Killed

    made = config(validation={"share": 0.25}, **FIELDS)
    with monkeypatch.context() as patch:
        patch.setattr("vasso_jax.train.loop.Trainer._test_best_and_last", die)
        with pytest.raises(Killed):
            train(made, str(tmp_path), model=MODEL, dataset=hard())
    result = train(made, str(tmp_path), model=MODEL, dataset=hard())
    assert result["ema_test_top1"] == finished[1]["ema_test_top1"]


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decays_out_of_range_are_refused(tmp_path, decay):
    with pytest.raises(UsageError, match=r"ema_decay must be in \[0, 1\)"):
        train(config(ema_decay=decay), str(tmp_path / "run"), model=MODEL, dataset=halves())


def test_a_run_without_it_has_none_to_read(tmp_path):
    train(config(epochs=1), str(tmp_path), model=MODEL, dataset=halves())
    with pytest.raises(UsageError, match="has no average of the weights"):
        load_run(tmp_path, average=True, model=MODEL)
