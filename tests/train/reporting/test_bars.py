"""The progress bar: what it leaves on the screen of a terminal and in the cell of a notebook."""

import builtins
import io
import os
import pty
import re
import subprocess
import sys
import types

import pytest
from rich.console import Console

from tests.runs import ROOT
from vasso_jax.train.reporting.bars import open_bar
from vasso_jax.train.reporting.console import Display

METRICS = {"loss": 2.5, "top1": 0.125}
HIDE, SHOW, ERASE = "\x1b[?25l", "\x1b[?25h", "\x1b[2K"
INTERRUPTED = """
import os, signal, time
from rich.console import Console
from vasso_jax.cli.interruption import EndedByCtrlC
from vasso_jax.train.reporting.bars import open_bar
with EndedByCtrlC(lambda: "interrupted; what was saved before is kept"):
    open_bar(Console(), False, 9, 1, "compiling")
    os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize("width", [60, 100])
def test_it_leaves_room_for_ctrl_c_and_the_cursor_visible(width):
    console = Console(file=io.StringIO(), force_terminal=True, _environ={}, width=width)
    bar = open_bar(console, False, 100, 0, "compiling")
    bar.show(7, "loss 2.500  top-1 12.50 %  1,234 images/s")
    bar.close()
    text = console.file.getvalue()
    lines = [re.sub(r"\x1b\[[\d;?]*\w", "", line) for line in re.split(r"[\r\n]", text)]
    assert max(map(len, lines)) == width - 3
    assert text.index(HIDE) < text.index(SHOW)
    assert text.endswith(ERASE)


def test_a_second_ctrl_c_takes_it_away():
    terminal, end = pty.openpty()
    command, env = [sys.executable, "-c", INTERRUPTED], os.environ | {"TERM": "xterm"}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=end, stderr=end):
        os.close(end)
        shown = b""
        while not shown.endswith(b"is kept\r\n"):
            shown += os.read(terminal, 1000)
    os.close(terminal)
    before, after = shown.decode().split("interrupted; ")
    assert before.rindex("compiling") < before.rindex(ERASE) < before.rindex(SHOW)
    assert after == "what was saved before is kept\r\n"


@pytest.fixture
def notebook(monkeypatch):
    """Makes this a notebook; returns the contents that the display of the cell had."""
    contents = []

    def display(content, *, raw, display_id):
        assert raw
        assert display_id
        contents.append(content)
        return types.SimpleNamespace(update=lambda content, *, raw: contents.append(content))

    module = types.ModuleType("IPython.display")
    module.display = display
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)
    return contents


def test_in_a_notebook_it_is_one_output_that_is_replaced(notebook, capsys):
    display = Display(enabled=True)
    display.note("reading")
    display.start(100, 3)
    display.advance(7, 100, METRICS, None)
    display.epoch(5, {**METRICS, "epoch": 1, "images_per_second": None}, None)
    display.warn("slow")
    display.stop()
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in out] == [
        ["reading"],
        ["epoch", "train"],
        ["1/5", "2.5000"],
        ["warning:", "slow"],
    ]
    assert [content["text/plain"] for content in notebook] == [
        "3/100  compiling the step",
        "7/100  loss 2.500  top-1 12.50 %",
        "",
    ]
    assert '<progress value="7" max="100">' in notebook[1]["text/html"]
    assert "text/html" not in notebook[2]


def test_other_hosts_have_none(notebook, capsys):
    display = Display(enabled=False)
    display.start(100, 0)
    display.advance(7, 100, METRICS, None)
    display.stop()
    assert not notebook
    assert not capsys.readouterr().out
