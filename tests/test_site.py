"""The documentation site: what it describes, and its extensions. `.ci/run` builds it."""

import importlib
import importlib.util
import pathlib
import pkgutil
import re

import optax
import pytest

import vasso_jax
from vasso_jax.optim import BallState

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = [path.name.removesuffix(".nb.py") for path in (ROOT / "docs/notebooks").glob("*.nb.py")]
API = sorted(path.stem for path in (ROOT / "docs/api").glob("*.rst"))


def extension(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/_ext/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", API)
def test_a_page_of_the_reference_describes_every_public_name_once(page):
    text = (ROOT / f"docs/api/{page}.rst").read_text()
    described = re.findall(r"^\.\. (?:auto\w+|data):: (\w+)$", text, re.MULTILINE)
    assert sorted(described) == sorted(importlib.import_module(f"vasso_jax.{page}").__all__)


def test_every_package_with_public_names_has_a_page():
    names = [module.name for module in pkgutil.iter_modules(vasso_jax.__path__) if module.ispkg]
    public = {n for n in names if hasattr(importlib.import_module(f"vasso_jax.{n}"), "__all__")}
    assert public == {*API}


def test_every_page_is_in_the_contents():
    contents = (ROOT / "docs/index.md").read_text().splitlines()
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    pages |= {f"api/{name}" for name in API} | {f"notebooks/{name}" for name in NOTEBOOKS}
    assert pages <= set(contents)


def test_every_notebook_names_its_kernel_and_first_installs_the_package_where_it_is_missing():
    begins = set()
    for name in NOTEBOOKS:
        header, title, install, _ = (
            (ROOT / f"docs/notebooks/{name}.nb.py").read_text().split("# %%", 3)
        )
        assert title.startswith(" [markdown]\n# # ")
        begins.add((header, install))
    ((header, install),) = begins
    assert "name: python3" in header
    assert 'find_spec("vasso_jax") is None' in install


def test_the_changelog_begins_with_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## (\S+)", text, re.MULTILINE)[1] == vasso_jax.__version__


def test_requests_to_other_hosts_are_found(tmp_path):
    (tmp_path / "good.html").write_text(
        '<a href="https://arxiv.org">a</a><script src="_static/a.js"></script><img src="a.png">'
    )
    (tmp_path / "bad.html").write_text(
        '<script src="https://cdn.example/a.js"></script><link href="//fonts.example/a.css">'
    )
    (tmp_path / "bad.css").write_text('@import "https://fonts.example/b.css";')
    found = extension("offline").requests_elsewhere(tmp_path)
    assert [(path.name, address) for path, address in found] == [
        ("bad.html", "https://cdn.example/a.js"),
        ("bad.html", "//fonts.example/a.css"),
        ("bad.css", '@import "https://fonts.example/b.css'),
    ]


def test_indented_blocks_of_a_docstring_are_equations():
    lines = [
        "The ball:",
        "",
        "    eps = rho d",
        "    where d is",
        "",
        "Text.",
        "",
        "Args:",
        "    rho: r",
    ]
    extension("docstrings").mark_equations(None, "", "", None, None, lines)
    assert lines == [
        *("The ball:", "", "::", "", "    eps = rho d", "    where d is", "", "Text.", ""),
        *("Args:", "    rho: r"),
    ]


def step(self, params: optax.Params, *, rho: "float | None" = 0.5) -> "optax.Updates": ...


def test_signatures_are_those_of_the_source():
    signature = extension("docstrings").signature_as_written
    assert signature(None, "method", "", step, None, None, None) == (
        "(params: optax.Params, *, rho: float | None=0.5)",
        "optax.Updates",
    )
    assert signature(None, "class", "", BallState, None, None, None) == ("(count: jax.Array)", "")
    assert signature(None, "module", "", optax, None, None, None) is None
