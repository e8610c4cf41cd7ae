"""Networks against PyTorch's answers for weights given by a formula; see golden/README.md."""

import json
import math
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from vasso_jax.models import create, from_torch

pytestmark = pytest.mark.slow

GOLDEN = pathlib.Path(__file__).parents[1] / "golden/models"
RTOL = 1e-5


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
    return golden, weights, golden["x"].transpose(0, 2, 3, 1).astype(np.float32)


def assert_close(actual, expected, tolerance=RTOL):
    """Relative to the largest entry: single logits may be near zero."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


# With these weights the batch statistics of some networks amplify rounding: PyTorch's own float32
# answer is 1.1 % (ResNet-18), 5.6 % (ResNet-50) and 0.007 % (VGG-11) of the largest logit away from
# its float64 one. Training mode is compared strictly in float64 for them.
AMPLIFYING = ["resnet18", "resnet50", "vgg11_bn"]
LARGE = ["resnet50", "pyramidnet14_20"]  # take long to compile
# The first BatchNorm of each.
FIRST_NORM = {
    "resnet18": "bn1",
    "resnet50": "bn1",
    "resnet18_imagenet": "bn1",
    "wrn10_1": "block1_0/bn1",
    "vgg11_bn": "features_1",
    "pyramidnet14_20": "bn1",
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.weekly if name in LARGE else []) for name in FIRST_NORM],
)
def test_outputs_and_running_statistics(name):
    golden, weights, x = load(name)
    variables = from_torch(name, weights)
    model = create(name, num_classes=10)

    assert_close(model.apply(variables, x, train=False), golden["eval_logits"])
    logits, moved = model.apply(variables, x, train=True, mutable=["batch_stats"])
    if name in AMPLIFYING:
        exact = np.load(GOLDEN / f"{name}_float64.npz")["train_logits"]
        assert np.abs(logits - exact).max() < 2 * np.abs(golden["train_logits"] - exact).max()
    else:
        assert_close(logits, golden["train_logits"])

    statistics = moved["batch_stats"]
    for part in FIRST_NORM[name].split("/"):
        statistics = statistics[part]
    np.testing.assert_allclose(statistics["mean"], golden["bn_mean"], rtol=RTOL, atol=1e-6)
    np.testing.assert_allclose(statistics["var"], golden["bn_var"], rtol=RTOL)


@pytest.mark.weekly
@pytest.mark.parametrize("name", AMPLIFYING)
def test_training_mode_in_float64(name, x64):
    _, weights, x = load(name)
    logits, _ = create(name, 10, dtype=jnp.float64).apply(
        from_torch(name, weights), x.astype(np.float64), train=True, mutable=["batch_stats"]
    )
    assert_close(logits, np.load(GOLDEN / f"{name}_float64.npz")["train_logits"], 2e-6)
