"""What the README, the configs and the packaging say, against the code."""

import importlib
import inspect
import pathlib
import re
import sys
import tomllib

import pytest
from absl import flags
from ml_collections import config_flags

from configs import default
from vasso_jax import optim

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
SHARED = {"__init__", "cifar", "imagenet"}
CONFIGS = sorted({path.stem for path in (ROOT / "configs").glob("*.py")} - SHARED)
WITH_OPTIMIZER = [name for name in CONFIGS if "_vasso" not in name and name != "default"]
FIELDS = set(default.get_config())


def blocks(language, page="README.md"):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_python_on_a_page_runs_from_top_to_bottom(page):
    names = {}
    for code in blocks("python", page):
        exec(compile(code, page, "exec"), names)


@pytest.mark.parametrize("page", PAGES)
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target


def test_the_table_of_recipes_has_their_defaults():
    text = (ROOT / "docs/optimizers.md").read_text()
    for name, arguments in re.findall(r"^\| `(\w+)` \| (rho [^|]+) \|", text, re.MULTILINE):
        parameters = inspect.signature(getattr(optim, name)).parameters
        stated = dict(argument.rsplit(" ", 1) for argument in arguments.split(", "))
        assert {key: parameters[key].default for key in stated} == {
            key: float(value) for key, value in stated.items()
        }
    assert len(re.findall(r"^\| `\w+` \| rho ", text, re.MULTILINE)) == 9


def test_the_readme_names_existing_fields_and_files():
    fields = set(re.findall(r"--config\.(\w+)", README))
    assert fields > {"rho", "theta", "data_dir"}
    assert fields <= FIELDS
    for path in re.findall(r"(?:configs|docs)/\w+\.\w+", README):
        assert (ROOT / path).exists(), path


def test_the_readme_has_no_gaps():
    assert not re.findall(r"\b[A-Z]{4,}_[A-Z]{4,}\b", README)


def test_ci_runs_the_test_command_of_the_readme():
    (command,) = (block for block in blocks("bash") if "pytest" in block)
    ci = (ROOT / ".ci/run").read_text()
    assert command.strip().replace("pip install", "pip install --quiet") in ci


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_has_the_known_fields_and_a_header(name):
    module = importlib.import_module(f"configs.{name}")
    config = module.get_config()
    assert set(config) == FIELDS
    with pytest.raises(AttributeError):
        config.unknown = 1
    if name != "default":
        for part in ("Source ", "Expected ", f"--config=configs/{name}.py"):
            assert part in module.__doc__, part


@pytest.mark.parametrize("name", WITH_OPTIMIZER)
def test_configs_take_the_optimizer_as_an_argument(name):
    module = importlib.import_module(f"configs.{name}")
    for optimizer in ("sgd", "sam", "asam", "vasso"):
        config = module.get_config(optimizer)
        assert config.optimizer == optimizer
        assert f":{optimizer}" in module.__doc__
        assert (config.rho is None) == (optimizer == "sgd")
        assert (config.theta is None) == (optimizer != "vasso")
    with pytest.raises(ValueError, match="Did you mean vasso"):
        module.get_config("vaso")


def test_fields_can_be_overridden_with_their_types(monkeypatch):
    overrides = ["--config.lr=1", "--config.nesterov=true", "--config.milestones=(5, 8)"]
    monkeypatch.setattr(sys, "argv", ["main.py", *overrides])
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file(
        "config", str(ROOT / "configs/digits_vasso.py"), flag_values=values
    )
    values(sys.argv)
    assert (config.value.lr, config.value.nesterov) == (1.0, True)
    assert tuple(config.value.milestones) == (5, 8)


def test_requirements_hold_every_dependency_with_gpu_and_tensorflow():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = set(project["dependencies"]) - {"jax>=0.10.2"}
    wanted |= {*extras["cuda12"], *extras["tensorflow"]}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert {line for line in lines if line and not line.startswith("#")} == wanted
    assert not any("tensorflow-cpu" in line or "cuda" in line for line in project["dependencies"])
