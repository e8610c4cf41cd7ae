"""Ctrl-C, wherever it arrives: in a callback of a library or in an import, too."""

import gc
import importlib
import os
import signal
import sys

import pytest

from vasso_jax.cli import main
from vasso_jax.cli.interruption import EndedByCtrlC


@pytest.fixture(autouse=True)
def not_at_once(monkeypatch):
    """Lets the process live: what ends it is SystemExit."""
    monkeypatch.setattr(os, "_exit", sys.exit)


def test_it_is_not_lost_in_a_callback(monkeypatch, capfd):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)

    def callback(*_):
        if not ended:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    gc.callbacks.append(callback)
    try:
        with EndedByCtrlC(lambda: "nothing is lost"):
            gc.collect()
    finally:
        gc.callbacks.remove(callback)
    assert ended == [130]
    assert capfd.readouterr().err == "nothing is lost\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_in_an_import_it_is_one_line(monkeypatch, capfd):
    def interrupted(name):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:  # as the extension modules of jaxlib do
            raise ImportError("Encountered an error while initializing the extension.") from error

    monkeypatch.setattr(importlib, "import_module", interrupted)
    monkeypatch.setattr(main, "_end_with_the_reader", lambda: None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as end:
            main.run("compare", ["x"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert end.value.code == 130
    assert capfd.readouterr().err == "interrupted\n"
