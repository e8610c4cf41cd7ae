"""The site works offline: a page that loads anything from another host is a warning."""

import pathlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

LOADED = {"audio", "embed", "iframe", "img", "link", "object", "script", "source", "video"}
ELSEWHERE = re.compile(r"\s*(?:https?:)?//")
IN_CSS = re.compile(r"(?:url\(|@import)\s*[\"']?\s*(?:https?:)?//[^\"')\s]+")


def setup(app: "Sphinx") -> dict[str, bool]:
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class _Requests(HTMLParser):
    """Collects the addresses that a browser requests when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in LOADED:
            self.found += [
                value
                for name, value in attrs
                if name in {"src", "href", "data", "srcset", "poster"}
                and value
                and ELSEWHERE.match(value)
            ]


def requests_elsewhere(folder: pathlib.Path) -> Iterator[tuple[pathlib.Path, str]]:
    """(file, address) for what the pages and style sheets below a folder load from other hosts."""
    for path in sorted(folder.rglob("*.html")):
        parser = _Requests()
        text = path.read_text()
        parser.feed(text)
        yield from ((path, address) for address in parser.found + IN_CSS.findall(text))
    for path in sorted(folder.rglob("*.css")):
        yield from ((path, address) for address in IN_CSS.findall(path.read_text()))


def _check(app: "Sphinx", exception: Exception | None) -> None:
    from sphinx.util import logging  # here, so that the tests need no Sphinx

    if exception is None and app.builder.format == "html":
        for path, address in requests_elsewhere(pathlib.Path(app.outdir)):
            logging.getLogger(__name__).warning("%s loads %s from another host", path, address)
