import numpy as np
import pytest

from tests import runs
from tests.train.tiny import SHAPE
from vasso_jax.data import Batch


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory):
    """A finished SHORT run: (workdir, result, standard output). To be left as it is."""
    workdir = tmp_path_factory.mktemp("unbroken")
    return workdir, *runs.run(workdir, *runs.SHORT)


@pytest.fixture
def batch():
    """For the networks of `tiny`."""
    rng = np.random.default_rng(0)
    return Batch(rng.integers(0, 256, (8, *SHAPE)).astype(np.uint8), rng.integers(0, 3, 8))
