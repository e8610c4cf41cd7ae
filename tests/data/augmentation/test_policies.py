"""Which operations are drawn, how often, and with which magnitudes."""

from collections import Counter

import jax
import numpy as np
import pytest

from benchmarks.compiled.collectives import collectives
from tests.models.compilation import quick_compilation
from vasso_jax.data.augmentation import Augmentation
from vasso_jax.data.augmentation.operations import Operation, Parameters, apply
from vasso_jax.data.augmentation.policies import apply_policy, draw, parameter_table
from vasso_jax.train.devices.sharding import batch_sharding, make_mesh

UNIT = 65536


def of(table, operation, number=0, sign=0):
    return Parameters(*(x[operation, number, sign] for x in table))


def test_magnitudes_of_randaugment_are_those_of_torchvision():
    table = parameter_table("randaugment", [9], height=331, width=224)
    assert table.factor.shape == (14, 1, 2)
    for sign, direction in ((0, 1), (1, -1)):
        assert of(table, Operation.SHEAR_X, 0, sign).matrix[1] == round(direction * 0.09 * UNIT)
        assert of(table, Operation.SHEAR_Y, 0, sign).matrix[3] == round(direction * 0.09 * UNIT)
        # 150 / 331 of the side, times 9 / 30: 30.45 and 45 pixels, rounded towards zero.
        moved = of(table, Operation.TRANSLATE_X, 0, sign).matrix[2] - UNIT // 2
        assert moved == -direction * 30 * UNIT
        moved = of(table, Operation.TRANSLATE_Y, 0, sign).matrix[5] - UNIT // 2
        assert moved == -direction * 45 * UNIT
        sine = of(table, Operation.ROTATE, 0, sign).matrix[3] / UNIT
        np.testing.assert_allclose(sine, direction * np.sin(np.radians(9)), atol=1e-5)
        for name in ("BRIGHTNESS", "COLOR", "CONTRAST", "SHARPNESS"):
            factor = of(table, Operation[name], 0, sign).factor
            np.testing.assert_allclose(factor, 1 + direction * 0.27, rtol=1e-6)
        assert of(table, Operation.POSTERIZE, 0, sign).mask == 0b11111110
        assert of(table, Operation.SOLARIZE, 0, sign).threshold == 179  # 178.5


def test_magnitudes_of_trivialaugment_are_those_of_its_wide_set():
    table = parameter_table("trivialaugment", range(31), height=331, width=224)
    assert table.factor.shape == (14, 31, 2)
    assert of(table, Operation.SHEAR_X, 30).matrix[1] == round(0.99 * UNIT)
    for number, pixels in ((14, 14), (15, 16), (30, 32)):
        moved = of(table, Operation.TRANSLATE_X, number).matrix[2] - UNIT // 2
        assert moved == -pixels * UNIT
    assert of(table, Operation.ROTATE, 20).matrix[0] == 0  # 90 degrees
    np.testing.assert_allclose(of(table, Operation.COLOR, 30, 1).factor, 0.01, rtol=1e-5)
    assert of(table, Operation.POSTERIZE, 30).mask == 0b11000000
    assert of(table, Operation.POSTERIZE, 13).mask == 0b11111000  # 2.6 bits
    assert of(table, Operation.SOLARIZE, 30).threshold == 0
    assert of(table, Operation.SOLARIZE, 0).threshold == 255


def test_operations_magnitudes_and_directions_are_equally_likely():
    table = parameter_table("trivialaugment", range(31), height=64, width=64)
    drawn = [jax.device_get(draw(jax.random.key(seed), 4000, table)) for seed in range(10)]
    drawn = Parameters(*map(np.concatenate, zip(*drawn, strict=True)))
    total, cells = 40_000, Counter(drawn.operation.tolist())
    assert set(cells) == set(range(14))
    expected = total / 14
    assert all(abs(count - expected) < 5 * np.sqrt(expected) for count in cells.values())
    # Of the shears: 31 magnitudes in either direction, of which two are 0.
    shears = Counter(drawn.matrix[drawn.operation == Operation.SHEAR_X, 1].tolist())
    assert len(shears) == 61
    expected = shears.total() / 62
    assert abs(shears.pop(0) - 2 * expected) < 5 * np.sqrt(2 * expected)
    assert all(abs(count - expected) < 5 * np.sqrt(expected) for count in shears.values())
    # And one does not tell of the other.
    turned = drawn.matrix[drawn.operation == Operation.ROTATE, 3]
    assert abs((turned > 0).sum() - (turned < 0).sum()) < 5 * np.sqrt(len(turned))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3)).astype(np.uint8)


@pytest.mark.slow
def test_randaugment_is_its_layer_several_times(images):
    options = Augmentation(policy="randaugment", operations=2, magnitude=20)
    table = parameter_table("randaugment", [20], 8, 8)
    layer = jax.jit(lambda key, images: apply(images, draw(key, 16, table)))
    both = jax.jit(lambda key, images: apply_policy(key, images, options))
    first, second = jax.random.split(jax.random.key(2), 2)
    with quick_compilation():
        expected = layer(second, layer(first, images))
        found = np.asarray(both(jax.random.key(2), images))
    np.testing.assert_array_equal(found, expected)
    assert (found != images).any((1, 2, 3)).sum() > 8
    assert len({image.tobytes() for image in found}) > 12


@pytest.mark.slow
def test_devices_change_their_own_images_as_one_device_would(images):
    options, found = Augmentation(policy="trivialaugment"), []
    for count in (1, 4):
        mesh = make_mesh(devices=jax.devices()[:count])
        placed = jax.device_put(images, batch_sharding(mesh))
        compiled = (
            jax.jit(
                lambda key, images: apply_policy(key, images, options),
                out_shardings=batch_sharding(mesh),
            )
            .lower(jax.random.key(0), placed)
            .compile()
        )
        # It would be slow to gather the batch.
        assert not collectives(compiled.as_text())
        found.append(jax.device_get(compiled(jax.random.key(0), placed)))
    np.testing.assert_array_equal(*found)
    assert found[0].dtype == np.uint8
    assert found[0].shape == images.shape
