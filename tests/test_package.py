"""The wheel, used from a folder that is no clone of the repository."""

import json
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

import vasso_jax
from tests import runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The content of a freshly built wheel, as `pip install` would lay it out."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", f"--outdir={folder}"]
    subprocess.run([*command, str(runs.ROOT)], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def vasso_jax_command(installed, folder, *arguments):
    """`vasso-jax ARGUMENTS` in a folder, of the wheel and nothing else."""
    code = "from vasso_jax.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(installed), "JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
    )


def train(installed, folder, *arguments):
    process = vasso_jax_command(
        installed, folder, "train", *arguments, "--config.epochs=1", "--config.tensorboard=False"
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def test_the_wheel_holds_the_package_its_configs_and_the_licence(installed):
    ours = {p.relative_to(runs.ROOT) for p in (runs.ROOT / "vasso_jax").rglob("*.py")}
    ours |= {pathlib.Path("vasso_jax", p.relative_to(runs.ROOT)) for p in CONFIGS}
    assert {p.relative_to(installed) for p in installed.rglob("*.py")} == ours
    assert (installed / "vasso_jax/py.typed").exists()
    assert (installed / "vasso_jax/runs/page/page.html").exists()
    assert list(installed.rglob("LICENSE"))
    metadata = next(installed.rglob("METADATA")).read_text()
    assert f"\nVersion: {vasso_jax.__version__}\n" in metadata


CONFIGS = sorted((runs.ROOT / "configs").glob("*.py"))


def test_it_trains_a_shipped_config_elsewhere_and_compares(installed, tmp_path):
    result = train(installed, tmp_path, "--config=digits:sam")
    assert result["workdir"] == str(tmp_path / "runs/digits_sam")
    process = vasso_jax_command(installed, tmp_path, "compare", "runs/digits_sam")
    assert process.returncode == 0, process.stderr
    assert f"{100 * result['test_top1']:.2f}" in process.stdout


def test_it_trains_a_config_network_and_data_set_of_ones_own(installed, tmp_path):
    for name in ("own_network", "own_dataset"):
        source = (runs.ROOT / f"examples/{name}.py").read_text()
        (tmp_path / f"{name}.py").write_text(source.replace("examples.own", "own"))
    result = train(
        installed,
        tmp_path,
        "--config=own_network.py",  # whose network is that of the file
        "--config.model.width=8",
        "--config.data.name=own_dataset:bars",
    )
    assert (result["epochs"], result["steps"]) == (1, 8)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--version"], 0, vasso_jax.__version__),
        (["--help"], 0, "import-torch"),
        (["trian"], 2, "invalid choice: 'trian'"),
        ([], 2, "required: COMMAND"),
        (["train", "--config=cifar10_resnet81:vasso"], 2, "Did you mean cifar10_resnet18"),
        (["train", "--config", "digits:sam", "--help_config"], 0, "--config.method.rho"),
        (["train", "--config", "digits:sam", "epochs=3"], 2, "what is 'epochs=3'"),
        (["train", "--help"], 0, "--help_config"),
        (["prepare", "cifar11"], 2, "Did you mean cifar1"),
        (["compare", "nowhere"], 2, "not a run folder"),
        (["import-torch", "--help"], 0, "PyTorch checkpoint"),
    ],
)
def test_the_command_answers(installed, tmp_path, arguments, status, message):
    process = vasso_jax_command(installed, tmp_path, *arguments)
    assert process.returncode == status
    assert message in (process.stderr if status else process.stdout)
    assert "Traceback" not in process.stderr
