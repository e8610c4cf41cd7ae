import numpy as np
import pytest

from tests.train.tiny import SHAPE
from vasso_jax.data import Batch


@pytest.fixture
def batch():
    """For the networks of `tiny`."""
    rng = np.random.default_rng(0)
    return Batch(rng.integers(0, 256, (8, *SHAPE)).astype(np.uint8), rng.integers(0, 3, 8))
