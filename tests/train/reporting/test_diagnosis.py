"""What a sharpness-aware run measures of its perturbation, and what it warns of."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.train.own_parts import HERE, Linear, config, halves
from tests.train.test_validation import hard
from vasso_jax import optim
from vasso_jax.runs import read_run
from vasso_jax.train import UsageError, check, train
from vasso_jax.train.reporting.diagnosis import symptoms

pytestmark = pytest.mark.slow

MODEL = Linear(2)


def against(base, rho: float = 0.1):
    """A direction turned against its gradient."""
    perturbation = optax.chain(optax.scale(-1.0), optim.l2_ball(rho))
    return optax.chain(optim.sharpness_aware(perturbation), base)


def nothing_perturbed(base):
    return optim.sam(base, 0.1, active=lambda step: step < 0)


def of_no_length(base):
    return optax.chain(optim.sharpness_aware(optax.set_to_zero()), base)


class Coarse(nn.Module):
    """Its parameters are in bfloat16."""

    num_classes: int

    @nn.compact
    def __call__(self, x, train):
        x = x.reshape(len(x), -1)
        return nn.Dense(self.num_classes, param_dtype=jnp.bfloat16)(x).astype(jnp.float32)


def fit(tmp_path, *, model=MODEL, dataset=None, **sections):
    made = config(**sections)
    train(made, str(tmp_path / "run"), model=model, dataset=dataset or hard())
    return read_run(tmp_path / "run").training


def test_a_record_has_what_the_perturbation_did(tmp_path, capsys):
    records = fit(tmp_path, method={"name": "vasso", "rho": 0.2, "theta": 0.5}, batch_size=64)
    first, second = records  # epochs of one step
    np.testing.assert_allclose(first["norm_over_rho"], 1, rtol=1e-4)
    np.testing.assert_allclose(first["perturbation_norm"], 0.2, rtol=1e-4)
    # The first direction is the gradient, and there is none before.
    np.testing.assert_allclose(first["cosine"], 1, rtol=1e-5)
    assert "successive_cosine" not in first
    assert 0 < second["successive_cosine"] <= 1
    assert first["loss_increase"] > 0
    assert (first["perturbed"], first["nonfinite_gradients"]) == (1, 0)
    out = capsys.readouterr().out
    assert "perturbation norm / rho" in out
    assert "cosine between directions" in out
    assert "warning" not in out


def test_the_loss_increase_and_the_successive_cosine_are_those_by_hand(tmp_path):
    """One batch of all images, so that each epoch is one step."""
    dataset = halves()
    mean, std = (jnp.array(x) for x in (dataset.mean, dataset.std))
    images, labels = (jnp.array(x) for x in dataset.train)
    images = (images / 255 - mean) / std
    made = config(method={"name": "vasso", "rho": 0.2, "theta": 0.25}, batch_size=32, epochs=3)
    made.base = {"name": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}
    made.schedule = {"name": "constant"}
    train(made, str(tmp_path), model=MODEL, dataset=dataset)
    variables = MODEL.init(
        jax.random.fold_in(jax.random.key(0), 0), jnp.zeros((1, 4, 4, 1)), train=False
    )

    def loss(params):
        logits, _ = MODEL.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def cosine(a, b):
        return optax.tree.vdot(a, b) / optax.tree.norm(a) / optax.tree.norm(b)

    params, d = variables["params"], None
    for record in read_run(tmp_path).training:
        g = jax.grad(loss)(params)
        new = g if d is None else jax.tree.map(lambda d, g: 0.75 * d + 0.25 * g, d, g)
        scale = 0.2 / optax.tree.norm(new)
        w_eps = jax.tree.map(lambda w, d, s=scale: w + s * d, params, new)
        increase = loss(w_eps) - loss(params)
        np.testing.assert_allclose(record["loss_increase"], increase, rtol=1e-3)
        np.testing.assert_allclose(record["cosine"], cosine(new, g), rtol=1e-4)
        if d is not None:
            np.testing.assert_allclose(record["successive_cosine"], cosine(new, d), rtol=1e-4)
        params = jax.tree.map(lambda w, g: w - 0.1 * g, params, jax.grad(loss)(w_eps))
        d = new


def test_rho_follows_its_schedule(tmp_path):
    records = fit(
        tmp_path, method={"name": "sam", "rho": 0.2}, rho_schedule={"rho_min": 0.1}, epochs=3
    )
    norms = [record["perturbation_norm"] for record in records]
    assert norms[0] > 1.2 * norms[-1]
    np.testing.assert_allclose([r["norm_over_rho"] for r in records], 1, rtol=1e-4)


@pytest.mark.weekly
@pytest.mark.parametrize("name", ["asam", "none", f"{HERE}:sam_twice"])
def test_a_norm_that_is_not_rho_is_not_compared_with_it(tmp_path, name):
    method = {"name": name, **({"factor": 2.0} if "twice" in name else {})}
    (record, _) = fit(tmp_path, method=method)
    assert "norm_over_rho" not in record
    assert ("perturbation_norm" in record) == (name != "none")


THIS = "tests.train.reporting.test_diagnosis"


@pytest.mark.parametrize(
    ("method", "warning"),
    [
        ({"name": "sam", "rho": 0.0}, "method.rho=0 perturbs nothing"),
        ({"name": "vasso", "theta": 0.0}, "method.theta=0 keeps the first gradient"),
        ({"name": f"{THIS}:nothing_perturbed"}, "no step was perturbed"),
        ({"name": f"{THIS}:of_no_length"}, "every perturbation was zero"),
        ({"name": f"{THIS}:against"}, "the direction points against the gradient (mean cosine -1"),
        # What float32 leaves of a radius near its resolution.
        ({"name": "sam", "rho": 2e-8}, "of the norm rho: the rest is lost in the rounding"),
    ],
)
def test_misuse_draws_its_warning(tmp_path, capsys, method, warning):
    fit(tmp_path, method=method)
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert any(warning in line for line in lines)
    # At the end, and once before if it could be told.
    assert all(lines.count(line) <= 2 for line in lines)
    assert out.splitlines()[-1] == lines[-1]


def test_parameters_in_bfloat16_swallow_the_perturbation(tmp_path, capsys):
    (record, _) = fit(tmp_path, model=Coarse(2), method={"name": "sam", "rho": 0.001})
    assert record["norm_over_rho"] < 0.8
    assert "of the norm rho: the rest is lost in the rounding" in capsys.readouterr().out


def test_gradients_that_are_not_finite_are_counted():
    records = [{"perturbed": 1.0, "nonfinite_gradients": n, "cosine": 0.5} for n in (0, 2, 1)]
    assert symptoms(records, ended=False) == [
        "3 gradients were not finite, and had no part in the direction"
    ]

    def loss(w, i):
        return jnp.sum(w * jnp.where(i == 0, jnp.nan, 1.0))

    tx = optim.vasso(optax.sgd(0.1), 0.1)
    w = jnp.ones(2)
    passes, _, _ = optim.value_and_update(loss, tx)(w, tx.init(w))
    assert not passes.is_finite


def test_a_window_after_the_end_is_refused(tmp_path):
    with pytest.raises(
        UsageError, match=r"method\.active begins at step 50, but the run has 8 steps"
    ):
        fit(tmp_path, method={"name": "sam", "active": (50, None)})


def test_other_seeds_need_no_other_program():
    """So that a cache of compiled programs serves the seeds of a sweep."""
    texts = []
    for seed in (0, 1):
        plan = check(config(seed=seed, method={"name": "vasso"}), model=MODEL, dataset=halves())
        experiment = plan.open(halves())
        program, state = experiment.program, experiment.program.abstract_state
        item = next(experiment.pipeline.training(0))
        texts.append(
            [
                program.train_step.lower(state, item).as_text(),
                program.create_state.func.lower(np.uint32(seed)).as_text(),
                experiment.pipeline._order.lower(experiment.pipeline._key, np.int32(0)).as_text(),
            ]
        )
    assert texts[0] == texts[1]


def test_a_first_step_without_a_direction_is_not_one_that_is_too_short(tmp_path, capsys):
    (first, _) = fit(tmp_path, method={"name": "momentum_sam", "rho": 0.1})
    np.testing.assert_allclose(first["norm_over_rho"], 1, rtol=1e-4)
    np.testing.assert_allclose(first["perturbation_norm"], 0.1 * 3 / 4, rtol=1e-4)
    assert "warning" not in capsys.readouterr().out


def test_a_direction_that_was_reused_has_not_turned(tmp_path):
    """Of four steps per epoch, the last one reuses the direction of the third."""
    records = fit(tmp_path, method={"name": "vasso", "refresh_every": 2})
    assert all("cosine" in record for record in records)
    assert not any("successive_cosine" in record for record in records)
