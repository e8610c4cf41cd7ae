"""A notebook's page offers it for download as a file for Jupyter and Colab, with its outputs."""

import os
import pathlib

from docutils import nodes
from sphinx.addnodes import download_reference
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", _add_download, priority=400)  # before Sphinx collects downloads
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _add_download(app: Sphinx, doctree: nodes.document) -> None:
    page = app.env.docname
    if not page.startswith("notebooks/"):
        return
    made = pathlib.Path(app.env.mystnb_config.output_folder) / f"{page}.ipynb"
    target = "/" + os.path.relpath(made, app.srcdir)  # from the folder of the sources
    name = nodes.literal("", made.name, classes=["xref", "download"])
    link = download_reference("", "", name, reftarget=target)
    title = next(iter(doctree.findall(nodes.title)))
    title.parent.insert(title.parent.index(title) + 1, nodes.paragraph("", "Download: ", link))
