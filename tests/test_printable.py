"""Nothing that comes from files or libraries acts on the terminal that it is shown in."""

import io

import pytest
from rich.console import Console

from vasso_jax.cli.compare import table
from vasso_jax.cli.failure import fail
from vasso_jax.printable import printable
from vasso_jax.train.reporting.console import Display

RED = "\x1b[31m"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"a{RED}b", r"a\x1b[31mb"),
        ("bell\a, back\b, start\r, 8 bit \x9b31m", r"bell\x07, back\x08, start\r, 8 bit \x9b31m"),
        ("no UTF-8: \udcff", r"no UTF-8: \udcff"),
        ("turned \u202efdp.exe", r"turned \u202efdp.exe"),
        ("two\nlines\tand é, 猫, 🐈", "two\nlines\tand é, 猫, 🐈"),
    ],
)
def test_what_acts_on_a_terminal_is_escaped(text, shown):
    assert printable(text) == shown


def test_messages_notes_and_tables_are_escaped(capsys, monkeypatch):
    with pytest.raises(SystemExit) as ended:
        fail(ValueError(f"no file {RED}x"))
    assert (ended.value.code, capsys.readouterr().err) == (2, "error: no file \\x1b[31mx\n")
    display = Display(enabled=True)
    written = io.StringIO()
    display.console.file = written
    display.note(RED)
    display.warn(RED)
    display.opening({"data": RED})
    display.closing({"workdir": RED})
    Console(file=written, width=80).print(table([RED], [[RED]]))
    assert "\x1b" not in written.getvalue()
    assert written.getvalue().count(r"\x1b[31m") == 6
