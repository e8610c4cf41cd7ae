"""Conversion of PyTorch state dicts: names, dtypes, and what is said where something is amiss."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from tests.models.test_golden_outputs import FIRST_NORM, load
from vasso_jax.models import create, from_torch, to_torch

NAME = "wrn10_1"


def state_dict():
    """Random weights for WRN-10-1 under PyTorch's names."""
    rng = np.random.default_rng(0)
    shapes = {"conv1.weight": (16, 3, 3, 3), "fc.weight": (10, 64), "fc.bias": (10,)}
    inputs = 16
    for i, outputs in enumerate((16, 32, 64), 1):
        block = f"block{i}.layer.0"
        shapes[f"{block}.conv1.weight"] = (outputs, inputs, 3, 3)
        shapes[f"{block}.conv2.weight"] = (outputs, outputs, 3, 3)
        if inputs != outputs:
            shapes[f"{block}.convShortcut.weight"] = (outputs, inputs, 1, 1)
        shapes |= norm(f"{block}.bn1", inputs) | norm(f"{block}.bn2", outputs)
        inputs = outputs
    shapes |= norm("bn1", 64)
    return {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}


def norm(name, size):
    kinds = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{kind}": (size,) for kind in kinds} | {f"{name}.num_batches_tracked": ()}


class Tensor:
    """What of a torch.Tensor the conversion may use: NumPy cannot take one of bfloat16."""

    def __init__(self, value, on_cpu=False, detached=False):
        self.value, self.on_cpu, self.detached = value, on_cpu, detached

    def detach(self):
        return Tensor(self.value, self.on_cpu, True)

    def cpu(self):
        return Tensor(self.value, True, self.detached)

    def float(self):
        return Tensor(self.value.astype(np.float32), self.on_cpu, self.detached)

    def numpy(self):
        assert self.on_cpu
        assert self.detached
        if self.value.dtype == ml_dtypes.bfloat16:
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.value


def test_tree_structure_is_that_of_init():
    model = create(NAME, 10)
    x = jnp.zeros((1, 8, 8, 3))
    initial = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
    variables = from_torch(NAME, state_dict())
    assert jax.tree.structure(variables) == jax.tree.structure(initial)


@pytest.mark.parametrize("kind", [lambda x: x, Tensor])
@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_any_dtype_of_arrays_and_tensors_becomes_float32(kind, dtype):
    weights = {key: value.astype(dtype) for key, value in state_dict().items()}
    variables = from_torch(NAME, {key: kind(value) for key, value in weights.items()})
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    kernel = weights["fc.weight"].T.astype(np.float32)
    np.testing.assert_array_equal(variables["params"]["fc"]["kernel"], kernel)


def test_the_prefix_of_data_parallel_is_dropped_where_all_have_it():
    weights = state_dict()
    prefixed = {f"module.{key}": value for key, value in weights.items()}
    jax.tree.map(
        np.testing.assert_array_equal, from_torch(NAME, prefixed), from_torch(NAME, weights)
    )
    with pytest.raises(ValueError, match=r"module\.extra of the state dict has no counterpart"):
        from_torch(NAME, weights | {"module.extra": np.zeros(3)})


def test_what_does_not_fit_is_named():
    weights = state_dict()
    without = {k: v for k, v in weights.items() if k != "block1.layer.0.conv1.weight"}
    with pytest.raises(ValueError, match="lacks params/block1_0/conv1/kernel of wrn10_1"):
        from_torch(NAME, without)
    with pytest.raises(ValueError, match=r"extra\.weight of the state dict has no counterpart"):
        from_torch(NAME, weights | {"extra.weight": np.zeros(3)})
    with pytest.raises(ValueError, match=r"fc.bias has shape \(3,\).*needs \(10,\)"):
        from_torch(NAME, weights | {"fc.bias": np.zeros(3)})
    with pytest.raises(ValueError, match=r"lacks linear\.weight / fc\.weight.*not a wrn10_1"):
        from_torch(NAME, {"conv1.weight": weights["conv1.weight"]})
    with pytest.raises(ValueError, match=r"lacks conv1\.weight .*not a wrn10_1"):
        from_torch(NAME, {})
    with pytest.raises(ValueError, match=r"lacks .*bn2/var and 32 more of wrn10_1"):
        from_torch(NAME, {key: weights[key] for key in ("conv1.weight", "fc.weight", "fc.bias")})
    with pytest.raises(ValueError, match="no conversion of PyTorch weights for vit_s32"):
        from_torch("vit_s32", weights)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({0: np.zeros(3)}, "names in a state dict must be strings"),
        ({"fc.bias": np.zeros(10, np.int8)}, r"fc\.bias .* is int8, not of floating numbers"),
        ({"fc.bias": np.zeros(10, np.complex64)}, r"fc\.bias .* is complex64, not of floating"),
        ({"fc.bias": {"nested": 1}}, r"fc\.bias .* is object, not of floating"),
        ({"fc.bias": [[1], [2, 3]]}, r"fc\.bias .* is no ordinary tensor"),
        ({"fc.weight": np.zeros(3)}, r"lacks linear\.weight / fc\.weight"),
        ({"conv1.weight": np.float32(1)}, r"lacks conv1\.weight"),
    ],
)
def test_what_is_no_weight_is_named(entries, message):
    with pytest.raises(ValueError, match=message):
        from_torch(NAME, state_dict() | entries)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FIRST_NORM))
def test_the_way_back_gives_the_names_and_arrays_of_pytorch(name):
    _, weights, _ = load(name)
    back = to_torch(create(name, num_classes=1), from_torch(name, weights))
    assert back.keys() == {key for key in weights if not key.endswith("num_batches_tracked")}
    for key, array in back.items():
        np.testing.assert_array_equal(array, weights[key].astype(np.float32))
        assert array.flags["C_CONTIGUOUS"]


def test_the_way_back_is_for_the_networks_of_pytorch():
    with pytest.raises(ValueError, match="no conversion of a ViT to PyTorch"):
        to_torch(create("vit_s32", 10), {})
