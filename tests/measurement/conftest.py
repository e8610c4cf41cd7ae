import pytest

from tests.measurement.untrained import write


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory):
    """The folders of two seeds. To be left as they are."""
    parent = tmp_path_factory.mktemp("untrained")
    return [write(parent / f"none{seed}", seed=seed) for seed in (0, 1)]
