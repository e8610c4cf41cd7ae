"""What the README, the configs and the packaging say, against the code."""

import importlib.util
import inspect
import pathlib
import re
import shlex
import sys
import tomllib

import pytest
from absl import flags
from ml_collections import config_flags
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from vasso_jax import optim
from vasso_jax.cli import sweep
from vasso_jax.train import check, default_config
from vasso_jax.train.config import optimizer
from vasso_jax.train.config.fields import SECTIONS
from vasso_jax.train.config.help import fields_of, full_names

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
SHORT = {"cifar10_vasso", "digits_vasso"}  # for the method of another one
METHODS = ("none", "sam", "asam", "vasso")


def blocks(language, page="README.md"):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=pytest.mark.slow if p == "docs/sharpness.md" else []) for p in PAGES],
)
def test_python_on_a_page_runs_from_top_to_bottom(page):
    names = {}
    for code in blocks("python", page):
        exec(compile(code, page, "exec"), names)


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target


def test_the_table_of_recipes_has_their_defaults():
    text = (ROOT / "docs/optimizers.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+ [\d.][^|]*) \|", text, re.MULTILINE)
    for name, arguments in rows:
        parameters = inspect.signature(getattr(optim, name)).parameters
        stated = dict(argument.rsplit(" ", 1) for argument in arguments.split(", "))
        assert {key: parameters[key].default for key in stated} == {
            key: float(value) for key, value in stated.items()
        }
    assert len(rows) == len(optimizer.METHODS)  # with bar, and without the base alone


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_existing_fields_and_files(page):
    text = (ROOT / page).read_text()
    for field in set(re.findall(r"--config\.([a-z][\w.]*\w)", text)):
        section, _, name = field.rpartition(".")
        known = field in full_names(name) or (name == "name" and SECTIONS.get(section))
        assert known, field
    for path in re.findall(r"(?:configs|docs|examples|studies|benchmarks)/\w+\.\w+", text):
        assert (ROOT / path).exists(), path


def sweeps():
    """The commands on all pages, without the program."""
    lines = (line for page in PAGES for block in blocks("bash", page) for line in block.split("\n"))
    return [shlex.split(line)[2:] for line in lines if line.startswith("vasso-jax sweep ")]


def test_the_sweeps_on_the_pages_have_points(capsys):
    counts = []
    for arguments in sweeps():
        sweep.main(
            [*(a for a in arguments if not a.startswith(("--index", "--list", "--jobs"))), "--list"]
        )
        counts.append(
            len([line for line in capsys.readouterr().out.splitlines() if line[0] == " "])
        )
    assert counts == [9, 35, 6, 6, 30]


def test_the_readme_is_short_and_shows_code_on_its_first_screen():
    lines = README.splitlines()
    assert len(lines) <= 125
    assert lines.index("```python") < 20


def test_the_table_of_the_readme_is_that_of_the_results():
    results = (ROOT / "docs/results.md").read_text()
    rows = re.findall(r"^  \| (\w+) \|(( [\d.-]+ \[.*?\] \|| +\|)+)$", README, re.MULTILINE)
    assert [name for name, *_ in rows] == ["SGD", "SAM", "VaSSO"]
    for name, figures, _ in rows:
        assert re.search(rf"^\| {name} \| \d\.\d\d \|{re.escape(figures)}$", results, re.MULTILINE)


def test_the_readme_has_no_gaps():
    assert not re.findall(r"\b[A-Z]{4,}_[A-Z]{4,}\b", README)


def test_ci_runs_the_test_commands_of_the_readme():
    (commands,) = (block for block in blocks("bash") if "pytest" in block)
    install, everything = commands.strip().splitlines()
    install, _, short = install.partition(" && ")
    ci = (ROOT / ".ci/run").read_text()
    assert install.replace("pip install", "pip install --quiet") in ci
    assert short == "pytest"
    assert everything in ci


def load(name):
    """The module of a config, as the command line loads it."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"configs/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_can_be_planned_and_has_a_header(name):
    module = load(name)
    config = module.get_config()
    assert set(config) == set(default_config())
    with pytest.raises(AttributeError):
        config.unknown = 1
    assert check(config).settings["method"]["name"] == "vasso"
    for part in ("Source ", "Expected ", f"--config=configs/{name}.py"):
        assert part in module.__doc__, part


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - SHORT))
def test_every_config_takes_the_method_as_an_argument(name):
    module = load(name)
    for method in (*METHODS, "gsam"):
        settings = check(module.get_config(method)).settings["method"]
        assert settings["name"] == method
        if method in METHODS:
            assert f":{method}" in module.__doc__
        assert ("theta" in settings) == (method == "vasso")


def test_a_method_in_a_config_is_that_of_its_short_form():
    for short, name in (("cifar10_vasso", "cifar10_resnet18"), ("digits_vasso", "digits")):
        assert load(short).get_config().to_dict() == load(name).get_config("vasso").to_dict()


def test_fields_that_share_a_description_have_their_own_meanings():
    config = load("digits").get_config("ssam")
    config.rho_schedule.rho_min = 0.01
    fields = {field.name: field for field in fields_of(config)}
    assert fields["rho_schedule.rho_min"].meaning == "rho at the smallest learning rate, >= 0"
    assert fields["method.seed"].meaning == "seed of the choice `random`"
    assert fields["method.seed"].value == config.seed


@pytest.mark.parametrize("name", CONFIGS)
def test_every_field_has_a_meaning(name):
    fields = list(fields_of(load(name).get_config()))
    assert len({field.name for field in fields}) == len(fields) > 30
    assert not [field.name for field in fields if not field.meaning]
    # What was only referred to is spelled out.
    assert not [field.name for field in fields if "ee `" in field.meaning]


def test_fields_can_be_overridden_with_their_types(monkeypatch):
    overrides = ["--config.base.lr=1", "--config.base.nesterov=true"]
    overrides += ["--config.schedule.name=multistep", "--config.schedule.milestones=(5, 8)"]
    monkeypatch.setattr(sys, "argv", ["main.py", *overrides])
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file(
        "config",
        str(ROOT / "configs/digits_vasso.py"),
        flag_values=values,
        lock_config=False,
        accept_new_attributes=True,
    )
    values(sys.argv)
    settings = check(config.value).settings
    assert (settings["base"]["lr"], settings["base"]["nesterov"]) == (1, True)
    assert tuple(settings["schedule"]["milestones"]) == (5, 8)


def test_requirements_hold_every_dependency_with_gpu_and_tensorflow():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {*project["dependencies"], *extras["train"]} - {"jax>=0.10.2"}
    wanted |= {*extras["cuda12"], *extras["tensorflow"]}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert {line for line in lines if line and not line.startswith("#")} == wanted
    assert not any("tensorflow-cpu" in line or "cuda" in line for line in extras["train"])


def test_the_core_is_light():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}
    assert names == {"jax", "optax", "numpy", "scipy", "matfree"}  # jax needs scipy itself


def test_the_constraints_are_versions_that_the_package_takes():
    """And of all that `pip install -e '.[test]'` asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    versions = {canonicalize_name(name): version for name, version in pinned.items()}
    for line in (*project["dependencies"], *extras["train"], *extras["test"]):
        wanted = Requirement(line)
        if wanted.name != project["name"]:
            assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), line
