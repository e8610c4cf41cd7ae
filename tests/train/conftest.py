import pytest

from tests import runs


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory):
    """A finished SHORT run: (workdir, result, standard output). To be left as it is."""
    workdir = tmp_path_factory.mktemp("unbroken")
    return workdir, *runs.run(workdir, *runs.SHORT)
