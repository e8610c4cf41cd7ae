"""The architecture in docs/design.md, enforced: what may import what, and what an import costs."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "vasso_jax"
LEAVES = {"optim", "models", "data", "sharpness", "runs"}
# The leaves that look names up, may call what the user's own stand for, and read files.
WITH_NAMES = {"models", "data", "runs"}
SHARED = ("vasso_jax.names.", "vasso_jax.own_code.", "vasso_jax.files.")
CONFIG_READERS = {"train/config/parts.py"}
CONFIG_MAKERS = {"train/config/fields.py", "train/presets.py"}


def own_imports(source, package):
    """The modules of vasso_jax that `source` imports; `package` is the dotted one it lies in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "vasso_jax")


def reads_config(source):
    """Whether a field of something called `config`, or of a flag's value, is read or set."""
    return any(
        isinstance(node, ast.Attribute | ast.Subscript)
        and ast.unparse(node.value) in ("config", "_CONFIG.value")
        for node in ast.walk(ast.parse(source))
    )


def allowed(module, leaf):
    """Leaves may use themselves, and those with open names what is shared about names."""
    return module.startswith(f"vasso_jax.{leaf}.") or (
        leaf in WITH_NAMES and module.startswith(SHARED)
    )


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_leaves_import_nothing_else_of_the_package(leaf):
    for path in (PACKAGE / leaf).rglob("*.py"):
        for module in own_imports(path.read_text(), f"vasso_jax.{leaf}"):
            assert allowed(module, leaf), f"{path} imports {module}"


@pytest.mark.parametrize(
    "source",
    [
        "from vasso_jax import train",
        "from vasso_jax.train import loop",
        "import vasso_jax.train.loop",
        "from .. import train",
        "from ..train import loop",
        "def f():\n    from vasso_jax.models import create",
    ],
)
def test_the_check_sees_every_form_of_import(source):
    (module,) = own_imports(source, "vasso_jax.data")
    assert not allowed(module, "data")


def test_one_file_reads_the_config():
    readers = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if reads_config(path.read_text())
    }
    assert readers == CONFIG_READERS | CONFIG_MAKERS


@pytest.mark.parametrize("source", ["config.rho", "config['rho']", "_CONFIG.value.rho"])
def test_the_check_sees_every_way_to_read_a_field(source):
    assert reads_config(f"x = {source}")


def test_nothing_below_the_commands_imports_them():
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name != "cli" and path.name != "__main__.py":
            package = ".".join(path.parent.relative_to(ROOT).parts)
            for module in own_imports(path.read_text(), package):
                assert not module.startswith("vasso_jax.cli"), path


def test_training_knows_nothing_of_what_is_made_of_it():
    for path in (PACKAGE / "train").rglob("*.py"):
        package = ".".join(path.parent.relative_to(ROOT).parts)
        for module in own_imports(path.read_text(), package):
            made = ("vasso_jax.sweep", "vasso_jax.inference", "vasso_jax.measurement")
            assert not module.startswith(made), path


@pytest.mark.parametrize(
    ("room", "below"),
    [
        ("config", set()),
        ("devices", set()),
        ("steps", {"config", "devices"}),
        ("checkpoints", {"steps", "devices"}),
        ("reporting", {"config"}),
    ],
)
def test_the_rooms_of_training_import_what_lies_below_them(room, below):
    rooms = {path.name for path in (PACKAGE / "train").iterdir() if path.is_dir()}
    for path in (PACKAGE / "train" / room).glob("*.py"):
        for module in own_imports(path.read_text(), f"vasso_jax.train.{room}"):
            other = module.removeprefix("vasso_jax.train.").split(".")[0]
            assert other not in rooms - below - {room}, f"{path} imports {module}"


def loaded_by(module):
    """The top-level packages there are after an import of `module` alone."""
    code = f"import {module}, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in loaded.stdout.split()}


def test_importing_the_optimizers_loads_jax_and_optax_only():
    heavy = "flax tensorflow tensorflow_datasets grain orbax clu ml_collections sklearn matplotlib"
    assert not loaded_by("vasso_jax.optim") & {*heavy.split(), "rich", "PIL"}


def test_comparing_runs_loads_no_jax_and_draws_only_when_told():
    heavy = "jax flax optax tensorflow tensorflow_datasets grain orbax clu ml_collections sklearn"
    assert not loaded_by("vasso_jax.cli.compare") & {
        *heavy.split(),
        "matplotlib",
        "plotly",
        "pandas",
    }


def test_a_config_is_read_without_jax():
    assert not loaded_by("vasso_jax.train.presets") & {"jax", "flax", "grain", "orbax"}


def test_the_run_folder_is_read_without_any_heavy_package():
    heavy = "jax flax optax numpy scipy matplotlib plotly rich ml_collections"
    assert not loaded_by("vasso_jax.runs") & {*heavy.split()}


def test_training_loads_what_measures_only_when_told():
    assert not loaded_by("vasso_jax.train.run") & {"scipy", "matfree"}


def test_a_sweep_leaves_jax_to_the_processes_that_train():
    assert not loaded_by("vasso_jax.sweep") & {"jax", "flax", "optax", "orbax", "grain"}
