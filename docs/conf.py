"""The documentation site: `sphinx-build --fail-on-warning docs build/site`."""

import pathlib
import sys

from sphinx.application import Sphinx

import vasso_jax

sys.path.insert(0, str(pathlib.Path(__file__).parent / "_ext"))

project = "vasso_jax"
release = vasso_jax.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "docstrings",
    "mathml",
    "offline",
]

# The pages are written for GitHub too: its anchors of headings, and its ```math blocks.
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]

# A name in `backquotes` is a link where it is a documented one, and code otherwise. References by
# the full name of something in this package must lead somewhere.
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?s)(?!vasso_jax\.).*")]
autodoc_default_options = {"members": True, "member-order": "bysource"}
add_module_names = False
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # the extension `docstrings` has them
python_maximum_signature_line_length = 80
napoleon_use_ivar = True
napoleon_use_param = False
napoleon_attr_annotations = False  # the signature has them
napoleon_use_rtype = False

highlight_language = "none"
pygments_dark_style = "github-dark"

html_theme = "furo"
html_title = f"vasso_jax {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False


def setup(app: Sphinx) -> None:
    def add_picture(app: Sphinx, page: str, *_: object) -> None:
        if page == "method":
            app.add_js_file("directions.js", loading_method="defer")

    app.connect("html-page-context", add_picture)
