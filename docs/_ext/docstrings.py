"""What Sphinx is told about the docstrings and signatures of this project."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

SECTION = re.compile(r"(Args|Attributes|Example|Raises|References|Returns|Yields):$")


def setup(app: "Sphinx") -> dict[str, bool]:
    app.connect("autodoc-process-docstring", mark_equations, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", signature_as_written)
    app.connect("autodoc-skip-member", _skip_fields)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def mark_equations(
    app: "Sphinx", what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Puts `::` before the indented blocks above the first section, such as Args.

    These are equations and code, as in Markdown. In reStructuredText they would be quotations.
    """
    marked: list[str] = []
    indented = True  # no block begins with the docstring
    for i, line in enumerate(lines):
        if SECTION.match(line):
            marked += lines[i:]
            break
        if line.startswith("    ") and not indented and not marked[-1]:
            marked += ["::", ""]
        if line:
            indented = line.startswith("    ")
        marked.append(line)
    lines[:] = marked


def signature_as_written(
    app: "Sphinx", what: str, name: str, obj: Any, options: Any, signature: str | None, returns: Any
) -> tuple[str, str] | None:
    """The annotations of the source: `optax.Params`, not the union that it stands for."""
    if what in {"module", "exception"}:
        return None
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(obj)))).body
    except (TypeError, OSError, SyntaxError):
        return None
    _without_quotes(tree)
    if isinstance(tree, ast.FunctionDef):
        if tree.args.args and tree.args.args[0].arg in {"self", "cls"}:
            del tree.args.args[0]
        return f"({ast.unparse(tree.args)})", ast.unparse(tree.returns) if tree.returns else ""
    if isinstance(tree, ast.ClassDef) and (fields := list(_fields(tree))):
        return f"({', '.join(fields)})", ""
    return None


def _fields(tree: ast.ClassDef) -> Iterable[str]:
    """The fields of a NamedTuple or a dataclass, which its constructor takes."""
    for line in tree.body:
        if isinstance(line, ast.AnnAssign) and "ClassVar" not in ast.unparse(line.annotation):
            yield ast.unparse(line)


def _without_quotes(tree: ast.AST) -> None:
    """Annotations in quotes, as of classes that are defined below, become names."""
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            quoted = getattr(node, field, None)
            if isinstance(quoted, ast.Constant) and isinstance(quoted.value, str):
                setattr(node, field, ast.parse(quoted.value, mode="eval").body)


def _skip_fields(
    app: "Sphinx", what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Fields of a NamedTuple are described under Attributes."""
    return True if type(obj).__name__ == "_tuplegetter" else None
