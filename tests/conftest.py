"""The whole suite runs on the CPU, as eight devices, so that sharding is exercised everywhere."""

import os
import tempfile

# One cache of all compiled programs, however small, for all tests and the processes they start.
_CACHE = tempfile.TemporaryDirectory(prefix="vasso_jax_tests_")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _CACHE.name)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
# Compiling is most of the work of the tests, and LLVM's optimisations half of that. What is fused
# and how sums are taken does not depend on them. XLA_FLAGS= compiles as users do.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import hypothesis
import jax
import pytest

# Everybody tries the same examples, so that whether a change passes does not depend on luck. How
# long one takes depends on what else the machine does.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
# New ones each time, as once a week: pytest --hypothesis-profile=random
hypothesis.settings.register_profile("random", deadline=None)
# For a campaign: pytest --hypothesis-profile=thorough tests/faults
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=10_000)
hypothesis.settings.load_profile("repeatable")

# Scripts that made the reference files; they need torch.
collect_ignore_glob = ["golden/*"]


@pytest.fixture
def x64():
    """float64 arithmetic for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory):
    """A finished SHORT run: (workdir, result, standard output). To be left as it is."""
    from tests import runs

    workdir = tmp_path_factory.mktemp("unbroken")
    return workdir, *runs.run(workdir, *runs.SHORT)
