"""Optimizers that accumulate, ask for parts of a batch, or cannot be called: right, or refused."""

import json

import optax
import pytest

from tests.train.own_parts import (
    HERE,
    Linear,
    config,
    halves,
)
from vasso_jax.optim import l2_ball, m_sharpness_aware, sam, vasso
from vasso_jax.train import UsageError, check, train

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"method": {"name": f"{HERE}:accumulating_sam"}}, "MultiSteps reads the learning rate"),
        ({"base": {"name": f"{HERE}:accumulating", "lr": 0.1}}, "give the whole optimizer.*tx="),
        ({"method": {"name": f"{HERE}:in_halves"}}, "each batch whole"),
        ({"method": {"name": f"{HERE}:in_parts"}}, "each batch whole"),
        (
            {"schedule": {"name": "optax:constant_schedule", "value": 0.1}},
            r"^schedule optax:constant_schedule cannot be called as schedule\(lr, epochs, "
            r"steps_per_epoch, value=\.\.\.\): .*; its signature is \(value\)$",
        ),
        (
            {"base": {"name": f"{HERE}:careless_sgd", "momentun": 0.9}},
            r"^base .*:careless_sgd: .*unexpected keyword argument 'momentun'.* \(.*own_parts.py, "
            r"line \d+\); it was called as base\(momentun=\.\.\., lr=\.\.\.\)$",
        ),
        (
            {"base": {"name": f"{HERE}:keyword_only"}},
            r"must take the learning rate as its first argument, by position; .* is \(\*, lr",
        ),
        (
            {"method": {"name": f"{HERE}:keyword_only"}},
            "must take the base optimizer as its first argument, by position",
        ),
        *(
            (
                {section: {"name": f"{HERE}:position_only", "rho": 0.2}},
                r"must take all arguments but the first by name; .* \(first, rho=0\.1, /\)",
            )
            for section in ("base", "method")
        ),
        ({"method": {"name": f"{HERE}:nothing"}}, "what method .*:nothing returns must be an opt"),
        ({"base": {"name": f"{HERE}:nothing", "lr": 0.1}}, "what base .*:nothing returns must be"),
    ],
    ids=str,
)
def test_an_optimizer_that_cannot_be_right_is_refused_before_the_data_is_read(
    tmp_path, sections, message
):
    # There is no such data set, which would be the message if it were read.
    made = config(data={"name": f"{HERE}:pair"}, **sections)
    with pytest.raises(UsageError, match=message):
        train(made, str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("tx", "message"),
    [
        (sam(optax.sgd(0.1), microbatches=2), "each batch whole"),
        (optax.masked(sam(optax.sgd(0.1), microbatches=2), True), "each batch whole"),
        (m_sharpness_aware(l2_ball(0.1), microbatches=2), "each batch whole"),
        (optax.MultiSteps(sam(optax.sgd(0.1)), 2), "its last batch only: put it around the base"),
        (
            optax.chain(optax.MultiSteps(vasso(optax.sgd(0.1)), 2).gradient_transformation()),
            "its last batch only: put it around the base",
        ),
    ],
)
def test_an_object_that_cannot_be_right_is_refused_before_the_data_is_read(tmp_path, tx, message):
    with pytest.raises(UsageError, match=message):
        train(config(data={"name": f"{HERE}:pair"}), str(tmp_path / "run"), tx=tx)


def test_an_optimizer_made_for_the_parameters_is_refused_before_the_first_step():
    def opened(**options):
        labels = {"BatchNorm_0": "sharp", "Dense_0": "sharp"}
        tx = optax.partition({"sharp": sam(optax.sgd(0.1), **options)}, labels)
        return check(config(), model=Linear(2), dataset=halves(), tx=tx).open(halves())

    assert opened().total_steps == 4
    with pytest.raises(ValueError, match="each batch whole"):
        opened(microbatches=2)


@pytest.mark.slow
def test_accumulation_that_is_right_trains(tmp_path):
    base = optax.MultiSteps(optax.sgd(0.5), 2)
    for name, tx in (("plain", base), ("sam", sam(base.gradient_transformation(), 0.1))):
        made = config()
        made.epochs = 4
        parts = {"model": Linear(2), "dataset": halves(), "tx": tx}
        assert train(made, str(tmp_path / name), **parts)["test_top1"] == 1.0


def test_an_epoch_without_a_clean_pass_is_recorded_without_a_loss(tmp_path):
    parts = {"model": Linear(2), "dataset": halves(), "tx": vasso(optax.sgd(0.1), refresh_every=3)}
    made = config()
    made.epochs, made.batch_size = 4, 32
    train(made, str(tmp_path / "run"), **parts)
    records = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = ["loss" in record for record in records if record["split"] == "train"]
    assert losses == [True, False, False, True]
