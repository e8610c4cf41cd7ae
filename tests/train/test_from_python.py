"""train() and check() called from Python: configs, objects in the place of sections, threads."""

import concurrent.futures
import json

import optax
import pytest
from ml_collections import FrozenConfigDict

from tests.train.own_parts import (
    HERE,
    Linear,
    config,
    halves,
)
from vasso_jax.train import UsageError, check, train


@pytest.mark.slow
def test_objects_take_the_place_of_sections(tmp_path, capsys):
    parts = {"model": Linear(2), "dataset": halves(), "tx": optax.adam(0.1)}
    made = config(model={"name": "wrn10_1"})
    result = train(made, str(tmp_path / "run"), **parts)
    assert result["test_top1"] == 1.0
    settings = json.loads((tmp_path / "run/config.json").read_text())
    assert settings["base"] == settings["schedule"] == {"name": "given"}
    assert settings["method"]["object"].startswith("GradientTransformation")
    assert settings["model"]["object"].endswith("Linear(num_classes=2)")
    assert settings["data"] == {"name": "halves"}
    records = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert all("lr" not in record for record in records)
    out = capsys.readouterr().out
    assert "Linear, 66 parameters" in out
    assert "a given optax transform" in out
    assert (tmp_path / "run/curves.png").exists()
    # The same again has finished, another network or transform is another run.
    assert train(made, str(tmp_path / "run"), **(parts | {"tx": optax.adam(0.1)})) == result
    with pytest.raises(UsageError, match=r"model\.object"):
        train(made, str(tmp_path / "run"), **(parts | {"model": Linear(2, momentum=0.5)}))
    with pytest.raises(UsageError, match=r"method\.object"):
        train(made, str(tmp_path / "run"), **(parts | {"tx": optax.adam(0.01)}))


@pytest.mark.parametrize(
    ("sections", "given", "message"),
    [
        (
            {"model": {"name": "wrn10_1", "dtype": "bfloat16"}},
            {"model": Linear(2)},
            r"model\.dtype would have no effect, as model takes the place of the section model: "
            r"empty it by config\.model = \{\}, or leave model out",
        ),
        ({"data": {"name": "digits", "split_seed": 1}}, {"dataset": halves()}, "data.split_seed"),
        ({"method": {"name": "sam", "rho": 0.1}}, {"tx": optax.sgd(0.1)}, "method.rho would"),
        ({"rho_schedule": {"rho_min": 0.1}}, {"tx": optax.sgd(0.1)}, "rho_schedule.rho_min would"),
        ({"base": {"name": "adam", "lr": 0.1}}, {"tx": optax.sgd(0.1)}, "base.lr would"),
        ({"schedule": {"name": "cosine", "final_lr": 0}}, {"tx": optax.sgd(0.1)}, "final_lr would"),
    ],
)
def test_fields_of_a_section_that_an_object_replaces_are_refused(sections, given, message):
    with pytest.raises(ValueError, match=message):
        check(config(**({"base": {}} | sections)), **given)


@pytest.mark.parametrize("wrong", [{}, config().to_dict(), None, "configs/digits.py"])
def test_a_config_of_another_type_is_refused(tmp_path, wrong):
    with pytest.raises(UsageError, match=r"must be a ConfigDict that began as .*default_config"):
        train(wrong, str(tmp_path / "run"))


def test_a_frozen_config_will_do():
    frozen = FrozenConfigDict(config())
    assert check(frozen).settings == check(config()).settings


def test_what_is_required_in_a_section_is_not_where_an_object_replaces_it():
    made = config(data={"name": "folder"}, model={"name": f"{HERE}:sam_twice"})
    assert check(made, dataset=halves(), model=Linear(2)).settings["data"] == {"name": "halves"}


@pytest.mark.slow
def test_training_works_in_a_thread(tmp_path):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        made = config(data={"name": f"{HERE}:halves"}, model={"name": f"{HERE}:Linear"})
        result = pool.submit(train, made, str(tmp_path / "run")).result()
    assert result["test_top1"] == 1.0


def test_a_workdir_of_nobody_is_one_message():
    with pytest.raises(UsageError, match=r"~nosuchuser/x begins with the home folder of a user"):
        train(config(), "~nosuchuser/x", model=Linear(2), dataset=halves())


def test_a_workdir_that_cannot_be_is_one_message():
    with pytest.raises(UsageError, match=r"cannot be written \(File name too long\): give another"):
        train(config(), "x" * 300, model=Linear(2), dataset=halves())


@pytest.mark.parametrize("workdir", [None, 3])
def test_a_workdir_of_another_type_is_one_message(workdir):
    with pytest.raises(UsageError, match=f"workdir must be the path of a folder, got {workdir}"):
        train(config(), workdir, model=Linear(2), dataset=halves())


def test_divergence_advises_only_what_the_run_has(tmp_path):
    parts = {"model": Linear(2), "dataset": halves(), "tx": optax.sgd(1e38)}
    with pytest.raises(UsageError, match=r"diverged: .*Try a smaller learning rate of tx, in"):
        train(config(epochs=1), str(tmp_path / "run"), **parts)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"model": Linear}, "model must be a Flax Linen module"),
        ({"dataset": (1, 2)}, "dataset must be a vasso_jax.data.ImageDataset"),
        ({"tx": optax.sgd}, "tx must be an optax transform"),
    ],
)
def test_an_object_of_another_kind_is_one_message(tmp_path, part, message):
    with pytest.raises(UsageError, match=message):
        train(config(), str(tmp_path / "run"), **part)
