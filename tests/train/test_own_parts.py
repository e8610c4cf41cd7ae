"""Networks, data sets and optimizers of the user's own, as names in the config."""

import json

import numpy as np
import pytest

from tests.train.own_parts import (
    HERE,
    Linear,
    config,
    halves,
)
from vasso_jax.train import UsageError, check, train


def test_names_of_modules_pick_all_parts_with_their_fields(tmp_path):
    made = config(
        model={"name": f"{HERE}:Linear", "momentum": 0.5},
        data={"name": f"{HERE}:halves", "train_images": 48},
        method={"name": f"{HERE}:sam_twice", "factor": 2.0},
        base={"name": "optax:lion", "lr": 0.01, "b1": 0.8},
    )
    result = train(made, str(tmp_path / "run"))
    assert result["steps"] == 6
    assert result["test_top1"] == 1.0
    settings = json.loads((tmp_path / "run/config.json").read_text())
    assert settings["model"] == {"name": f"{HERE}:Linear", "momentum": 0.5}
    assert settings["method"] == {"name": f"{HERE}:sam_twice", "rho": 0.1, "factor": 2.0}
    assert settings["data"] == {"name": f"{HERE}:halves", "train_images": 48, "bright": 200}
    assert (settings["base"]["b1"], settings["base"]["b2"]) == (0.8, 0.99)
    records = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(records[0]["perturbation_norm"], 0.2, rtol=1e-4)
    # Again, it is finished.
    assert train(made, str(tmp_path / "run")) == result


def test_an_argument_of_an_own_method_means_what_the_method_says():
    made = config(method={"name": f"{HERE}:own_refreshing", "refresh_every": 1000})
    check(made).open(halves())


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"name": f"{HERE}:fixed_head", "width": 3}}, r"logits of shape \(1, 3\).*2"),
        ({"model": {"name": f"{HERE}:Counting"}}, "variables counters"),
        ({"model": {"name": f"{HERE}:halves"}}, "must be a Flax Linen module"),
        ({"model": {"name": f"{HERE}:Linear", "depth": 3}}, "has no depth"),
        ({"data": {"name": f"{HERE}:pair"}}, "must return a vasso_jax.data.ImageDataset"),
        ({"data": {"name": f"{HERE}:halves", "size": 3}}, "has no size"),
        ({"data": {"name": f"{HERE}:scaled_by_hand", "factor": 0.5}}, "images must be uint8"),
        ({"method": {"name": f"{HERE}:sam_twice"}}, "needs factor: give --config.method.factor"),
        ({"method": {"name": f"{HERE}:sam_thrice"}}, "has no 'sam_thrice'. Did you mean sam_twice"),
        ({"base": {"name": "optax:lion"}}, "base optax:lion needs lr"),
        ({"base": {"name": "optax:nothing"}}, "optax has no 'nothing'"),
        ({"method": {"name": "optax.nowhere:sam"}}, "no module optax.nowhere"),
        ({"method": {"name": "optax:__version__"}}, "is no function or class"),
        (
            {"method": {"name": f"{HERE}:takes_nothing"}},
            "must take the base optimizer as its first",
        ),
        ({"base": {"name": f"{HERE}:takes_nothing"}}, "must take the learning rate as its first"),
        ({"base": {"name": "optax:adamw", "lr": 0.1, "mask": "matrixes"}}, "Did you mean matrices"),
        ({"method": {"name": "sam", "mask": 5}}, "method.mask must be a name"),
        ({"model": {"name": "wrn10_1", "dtype": 5}}, "model.dtype must be one of float32"),
        ({"model": {"name": "wrn10_1", "dtype": "float64"}}, "Known: float32, bfloat16"),
        (
            {"model": {"name": "wrn10_1", "dtype": np.float64}},
            "model.dtype must be one of float32, bfloat16, got float64",
        ),
        (
            {"method": {"name": "vasso", "accumulator_dtype": "float64"}},
            "accumulator_dtype=float64 has no effect without JAX_ENABLE_X64=1",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_one_message(tmp_path, sections, message):
    made = config(**({"data": {"name": f"{HERE}:halves"}} | sections))
    with pytest.raises(UsageError, match=message):
        train(made, str(tmp_path / "run"))


def test_a_learning_rate_by_position_only_will_do():
    made = config(base={"name": f"{HERE}:first_by_position", "lr": 0.2, "momentum": 0.5})
    assert check(made).settings["base"]["momentum"] == 0.5


def test_a_module_that_ends_the_process_is_one_message(tmp_path, monkeypatch):
    (tmp_path / "own_exit_on_import.py").write_text("import sys; sys.exit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="own_exit_on_import cannot be imported: SystemExit: 3"):
        train(config(model={"name": "own_exit_on_import:Net"}), str(tmp_path / "run"))


def test_an_error_in_an_own_data_set_is_one_message_with_its_line(tmp_path):
    made = config(data={"name": f"{HERE}:careless_pixels", "size": "8"})
    with pytest.raises(UsageError, match=r"careless_pixels cannot be loaded: .*own_parts.py, line"):
        train(made, str(tmp_path / "run"), model=Linear(2))


@pytest.mark.slow
def test_a_data_set_made_by_hand_trains_like_any_other(tmp_path):
    made = config(data={"name": f"{HERE}:scaled_by_hand", "factor": 1.0})
    assert train(made, str(tmp_path / "run"), model=Linear(2))["test_top1"] == 1.0
    facts = json.loads((tmp_path / "run/dataset.json").read_text())
    assert (facts["class_names"], facts["mean"]) == (["upper", "lower"], [0.4])


def test_fields_of_any_name_reach_a_function_that_takes_them():
    made = config(data={"name": f"{HERE}:pair", "anything": 3})
    assert check(made).source.fields == {"anything": 3}
