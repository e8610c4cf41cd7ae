"""Checksums of arrays: of every dtype, on any devices, and what they tell apart."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasso_jax.train.checkpoints.about import examine
from vasso_jax.train.devices.sharding import make_mesh, replicated, spread

DTYPES = (
    *("float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "complex64", "bool"),
    *("int32", "uint32", "int16", "uint16", "int8", "uint8", "int4", "uint4"),
)
DTYPES_OF_64_BITS = ("float64", "int64", "uint64", "complex128")
SHAPES = ((), (0,), (1,), (7,), (3, 5), (2, 3, 4, 2))


def in_32_bits(array):
    """The elements as unsigned integers; of more than 32 bits as several, the lowest first."""
    array = np.asarray(array)
    if array.dtype.name in ("int4", "uint4"):
        return array.astype(np.uint8).astype(np.uint32).ravel() & 15
    width = array.dtype.itemsize
    unsigned = np.dtype(f"u{min(width, 4)}")
    return np.frombuffer(array.tobytes(), unsigned).astype(np.uint32)


def expected(array):
    """The equation of the module, in Python's integers."""
    total = 0
    for index, bits in enumerate(in_32_bits(array).tolist()):
        x = (bits + index * 0x9E3779B9) % 2**32
        x = (x ^ (x >> 16)) * 0x85EBCA6B % 2**32
        x = (x ^ (x >> 13)) * 0xC2B2AE35 % 2**32
        total += x ^ (x >> 16)
    return total % 2**32


def draw(shape, dtype, seed=0):
    """Random bits."""
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return jnp.array(rng.integers(0, 2, shape), bool)
    if dtype in ("int4", "uint4"):
        return jnp.array(rng.integers(0, 7, shape)).astype(dtype)
    item = jnp.dtype(dtype).itemsize
    content = rng.integers(0, 256, int(np.prod(shape)) * item, dtype=np.uint8).tobytes()
    return jnp.array(np.frombuffer(content, jnp.dtype(dtype)).reshape(shape))


def sums(tree):
    return {path: array.checksum for path, array in examine(tree).items()}


@pytest.mark.slow
def test_every_dtype_has_the_sum_of_the_equation():
    arrays = {dtype: draw((3, 5), dtype) for dtype in DTYPES}
    found = examine(arrays)
    for dtype, array in arrays.items():
        assert found[dtype][:3] == ((3, 5), dtype, expected(array)), dtype


def test_every_shape_has_the_sum_of_the_equation():
    arrays = {str(shape): draw(shape, "float32") for shape in SHAPES}
    assert sums(arrays) == {shape: expected(array) for shape, array in arrays.items()}


def test_arrays_of_64_bits_count_as_two_halves(x64):
    arrays = {dtype: draw((3, 5), dtype) for dtype in DTYPES_OF_64_BITS}
    assert all(array.dtype == dtype for dtype, array in arrays.items())
    assert sums(arrays) == {dtype: expected(array) for dtype, array in arrays.items()}


def test_every_bit_pattern_counts_as_it_is():
    # NaNs with a payload, subnormal numbers and negative zero too.
    patterns = np.arange(2**16, dtype=np.uint16)
    for dtype in (jnp.bfloat16, jnp.float16):
        array = jnp.array(patterns.view(dtype))
        assert sums([array]) == {"0": expected(patterns)}
    signalling = np.array([0x7F800001, 0xFFC12345, 1, 0x80000000], np.uint32)
    assert sums([jnp.array(signalling.view(np.float32))]) == {"0": expected(signalling)}


def test_typed_keys_count_as_their_data():
    key = jax.random.key(3)
    assert sums({"x": key}) == sums({"x": jax.random.key_data(key)})


def test_paths_are_the_keys():
    tree = {"params": {"head": [jnp.zeros(1), jnp.zeros(2)]}, "none": None, "step": jnp.int32(1)}
    assert examine(tree).keys() == {"params/head/0", "params/head/1", "step"}


def test_sums_are_the_same_on_any_devices():
    tree = {"a": draw((8, 130), "bfloat16", 1), "b": draw((3, 3, 16, 24), "float32", 2)}
    alone = sums(tree)
    assert len(jax.devices()) == 8
    everywhere = jax.tree.map(lambda _: replicated(make_mesh()), tree)
    for shardings in (everywhere, spread(tree, make_mesh(8)), spread(tree, make_mesh(2))):
        assert sums(jax.device_put(tree, shardings)) == alone


@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=60)
def test_every_flipped_bit_changes_the_sum(data):
    dtype = data.draw(st.sampled_from(["float32", "bfloat16", "uint8"]))
    array = np.array(draw((4, 9), dtype, data.draw(st.integers(0, 20))))
    content = bytearray(array.tobytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    flipped = np.frombuffer(bytes(content), array.dtype).reshape(array.shape)
    assert sums([array]) != sums([flipped])


def test_exchanged_elements_change_the_sum():
    array = np.arange(50, dtype=np.float32)
    exchanged = array.copy()
    exchanged[[3, 40]] = exchanged[[40, 3]]
    assert sums([array]) != sums([exchanged])
    assert sums([array]) != sums([array[::-1].copy()])


def test_nan_and_infinity_are_found():
    found = examine(
        {"nan": jnp.array([1, np.nan]), "inf": -jnp.inf * jnp.ones(2), "n": jnp.arange(3)}
    )
    assert [found[name].has_nan for name in ("nan", "inf", "n")] == [True, False, False]
    assert [found[name].has_infinity for name in ("nan", "inf", "n")] == [False, True, False]
    # Their sum overflows, and is finite in each.
    largest = examine({"x": jnp.full(4, jnp.finfo(jnp.float32).max)})["x"]
    assert (largest.has_nan, largest.has_infinity) == (False, False)
