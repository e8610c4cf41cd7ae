"""The architecture in README.md, enforced: what may import what, and what an import costs."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "vasso_jax"
LEAVES = {"optim", "models", "data", "analysis"}


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_leaves_import_nothing_else_of_the_package(leaf):
    for path in (PACKAGE / leaf).rglob("*.py"):
        for module in imported_modules(path):
            if module.startswith("vasso_jax."):
                assert module.split(".")[1] == leaf, f"{path} imports {module}"


def test_only_the_experiment_reads_the_config():
    for path in PACKAGE.rglob("*.py"):
        reads = {"ml_collections", "absl"} & {m.split(".")[0] for m in imported_modules(path)}
        allowed = path.parent.name == "train" and path.name in ("experiment.py", "loop.py")
        assert not reads or allowed, f"{path} imports {reads}"


def test_importing_the_optimizers_loads_jax_and_optax_only():
    code = "import vasso_jax.optim, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    top_level = {name.split(".")[0] for name in loaded.stdout.split()}
    heavy = "flax tensorflow tensorflow_datasets grain orbax clu ml_collections sklearn matplotlib"
    assert not top_level & {*heavy.split(), "rich", "PIL"}
