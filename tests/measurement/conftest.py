import shutil

import pytest

from tests.measurement.untrained import write


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory):
    """The folders of two seeds. To be left as they are."""
    parent = tmp_path_factory.mktemp("untrained")
    return [write(parent / f"none{seed}", seed=seed) for seed in (0, 1)]


@pytest.fixture
def folder(two_runs, tmp_path):
    """A copy of a run."""
    return shutil.copytree(two_runs[0], tmp_path / "run")
