"""Networks against outputs of the authors' PyTorch ones, for weights given by a formula."""

import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasso_jax.models import create
from vasso_jax.models.torch_weights import from_torch

GOLDEN = pathlib.Path(__file__).parents[1] / "golden/models"
RTOL = 1e-4


def formula_weights(keys, freq):
    """The state dict that the golden outputs were made with."""
    weights = {}
    for i, (name, shape) in enumerate(keys):
        wave = np.sin(np.arange(math.prod(shape)) * freq + i).reshape(shape)
        if name.endswith("num_batches_tracked"):
            weights[name] = np.zeros((), np.int64)
        elif name.endswith("running_mean"):
            weights[name] = 0.1 * wave
        elif name.endswith("running_var"):
            weights[name] = 1 + 0.5 * wave**2
        elif len(shape) >= 2:
            weights[name] = wave * math.sqrt(2 / math.prod(shape[1:]))
        elif name.endswith("weight"):
            weights[name] = 1 + 0.1 * wave
        else:
            weights[name] = 0.1 * wave
    return weights


def load(name):
    golden = np.load(GOLDEN / f"{name}.npz")
    weights = formula_weights(json.loads(str(golden["keys"])), float(golden["freq"]))
    return golden, weights, jnp.asarray(golden["x"].transpose(0, 2, 3, 1))


def assert_close(actual, expected, tolerance=RTOL):
    """Relative to the largest entry: single logits may be near zero."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("name", ["resnet18", "wrn10_1"])
def test_outputs_and_running_statistics(name):
    golden, weights, x = load(name)
    variables = from_torch(name, weights)
    model = create(name, num_classes=10)

    assert_close(model.apply(variables, x, train=False), golden["eval_logits"])
    logits, moved = model.apply(variables, x, train=True, mutable=["batch_stats"])
    # With these weights ResNet-18's batch statistics amplify rounding: PyTorch's own float32 answer
    # is 1.1 % away from its float64 one, so the golden logits are good to two digits only. The
    # float64 test below carries the strict comparison.
    assert_close(logits, golden["train_logits"], RTOL if name == "wrn10_1" else 2e-2)

    keys = [key for key, _ in json.loads(str(golden["keys"]))]
    first = next(key for key in keys if key.endswith("running_mean")).removesuffix(".running_mean")
    path = {"bn1": ("bn1",), "block1.layer.0.bn1": ("block1_0", "bn1")}[first]
    statistics = moved["batch_stats"]
    for part in path:
        statistics = statistics[part]
    np.testing.assert_allclose(statistics["mean"], golden["bn_mean"], rtol=RTOL, atol=1e-6)
    np.testing.assert_allclose(statistics["var"], golden["bn_var"], rtol=RTOL)


def test_resnet18_in_training_mode_in_float32_is_as_near_the_float64_answer_as_pytorch_is():
    _, weights, x = load("resnet18")
    exact = np.load(GOLDEN / "resnet18_float64.npz")["train_logits"]
    variables = from_torch("resnet18", weights)
    ours, _ = create("resnet18", 10).apply(variables, x, train=True, mutable=["batch_stats"])
    theirs = np.load(GOLDEN / "resnet18.npz")["train_logits"]
    assert np.abs(ours - exact).max() < np.abs(theirs - exact).max()


def test_resnet18_in_training_mode_in_float64(x64):
    _, weights, x = load("resnet18")
    logits, _ = create("resnet18", 10, dtype=jnp.float64).apply(
        from_torch("resnet18", weights), x.astype(jnp.float64), train=True, mutable=["batch_stats"]
    )
    assert_close(logits, np.load(GOLDEN / "resnet18_float64.npz")["train_logits"], 1e-6)


def test_conversion_names_what_does_not_fit():
    _, weights, _ = load("wrn10_1")
    with pytest.raises(ValueError, match="lacks params/block1_0/conv1/kernel of wrn10_1"):
        from_torch(
            "wrn10_1", {k: v for k, v in weights.items() if k != "block1.layer.0.conv1.weight"}
        )
    with pytest.raises(ValueError, match=r"extra\.weight of the state dict has no counterpart"):
        from_torch("wrn10_1", weights | {"extra.weight": np.zeros(3)})
    with pytest.raises(ValueError, match=r"fc.bias has shape \(3,\).*needs \(10,\)"):
        from_torch("wrn10_1", weights | {"fc.bias": np.zeros(3)})
    with pytest.raises(ValueError, match="not a wrn10_1"):
        from_torch("wrn10_1", {})


def test_tree_structure_is_that_of_init():
    _, weights, x = load("wrn10_1")
    variables = from_torch("wrn10_1", weights)
    initial = create("wrn10_1", 10).init(jax.random.key(0), x, train=False)
    assert jax.tree.structure(variables) == jax.tree.structure(initial)
