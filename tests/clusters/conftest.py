"""A Slurm cluster for the tests of this folder, which need it on their machine."""

import pathlib
import tempfile

import pytest

from tests.clusters import slurm as slurm_cluster


@pytest.fixture(scope="session")
def slurm():
    # Not pytest's own folder: the path of a socket is at most 107 bytes long.
    with (
        tempfile.TemporaryDirectory(prefix="slurm") as folder,
        slurm_cluster.cluster(pathlib.Path(folder)) as cluster,
    ):
        yield cluster
