"""Texts as they may go to a terminal, whatever is in a file name, a class name or an error."""

import re

# Controls but for tab and newline, what is no UTF-8, and what turns the direction of writing.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    """The text, with escapes such as \\x1b in place of characters that could act on a terminal."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))
