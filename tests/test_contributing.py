"""The five steps of CONTRIBUTING.md, done with a copy of the package."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.runs import ROOT

# A file, and the beginning of the line below which the block goes; without one, the file's end.
PLACE = re.compile(r"(?:#|<!--|\.\.) ([\w/.]+)(?:, below (.+?))?(?: -->)?")


def insert(folder, block):
    """Puts a block of the page at its place; only entries of a table are indented like it."""
    first, *lines = block.splitlines()
    name, below = PLACE.fullmatch(first).groups()
    path = folder / name
    content = path.read_text().splitlines()
    if below is None:
        content += ["", "", *lines]
    else:
        start = next(i for i, line in enumerate(content) if line.startswith(below)) + 1
        content[start:start] = lines
    path.write_text("\n".join([*content, ""]))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the repository with the method of the page in it."""
    folder = tmp_path_factory.mktemp("contributed")
    for path in ROOT.glob("*.*"):
        if path.is_file():
            shutil.copy(path, folder)
    for name in ("vasso_jax", "tests", "docs", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    page = (ROOT / "CONTRIBUTING.md").read_text()
    blocks = re.findall(r"```(?:python|text|markdown|rst)\n(.*?)```", page, re.DOTALL)
    for block in blocks:
        insert(folder, block)
    assert len(blocks) == 10
    return folder


@pytest.mark.slow
def test_the_method_of_the_page_passes_the_tests_of_all_methods(copy):
    files = [
        "tests/optim/test_methods.py",
        "tests/optim/test_costs.py",
        "tests/train/config/test_optimizer.py",
        "tests/test_documents.py",
        "tests/test_site.py",
        "vasso_jax/optim/_recipes_sam.py",
    ]
    options = ["-v", "-n", "0", "-m", "", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
    chosen = "linf_sam or table_of_recipes or public_name"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-k", chosen, *files],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    passed = re.findall(r"^(\S+?)::\S+ PASSED", done.stdout, re.MULTILINE)
    assert {*passed} == {*files}
