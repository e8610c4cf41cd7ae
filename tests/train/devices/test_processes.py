"""What becomes of a process whose run has lost another one."""

import os

import jax
import pytest

from tests.train.networks import NAME
from vasso_jax.runs import RunFolder
from vasso_jax.train import check, default_config, run, run_plan
from vasso_jax.train.checkpoints.checkpoint import Checkpoints
from vasso_jax.train.devices import processes
from vasso_jax.train.errors import RESUMABLE


class Ended(BaseException):
    """In place of the end of this process."""


def end(status):
    raise Ended(status)


@pytest.mark.parametrize(
    "text",
    [
        "INVALID_ARGUMENT: No such compile option: 'xla_x'",
        "UNIMPLEMENTED: no such operation",
        "XLA: RESOURCE_EXHAUSTED: Out of memory",
    ],
)
def test_an_error_of_the_program_is_not_taken_for_a_lost_process(text, monkeypatch):
    monkeypatch.setattr(processes, "several", lambda: True)
    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(jax.errors.JaxRuntimeError, match=text), processes.leaving_the_lost():
        raise jax.errors.JaxRuntimeError(text)


@pytest.mark.parametrize(
    ("where", "step"),
    [
        (RunFolder, "open_for"),
        (run, "_has_finished"),
        (run, "open_experiment"),
        (run, "start_or_resume"),
    ],
)
def test_another_process_lost_before_the_first_step_is_one_message_and_status_75(
    where, step, tmp_path, monkeypatch, capfd
):
    happened = []

    def lose(*args, **kwargs):
        monkeypatch.setattr(processes, "several", lambda: True)
        raise jax.errors.JaxRuntimeError("UNKNOWN: Connection closed by peer")

    def end_here(status):
        happened.append("the end")
        end(status)

    config = default_config()
    config.data = {"name": "digits"}
    config.model = {"name": NAME}
    monkeypatch.setattr(where, step, lose)
    monkeypatch.setattr(Checkpoints, "close", lambda self: happened.append("a wait for the lost"))
    monkeypatch.setattr(os, "_exit", end_here)
    with pytest.raises(Ended) as ended:
        run_plan(check(config), str(tmp_path))
    assert ended.value.args == (RESUMABLE,)
    assert happened[0] == "the end"
    assert "another process of this run has died" in capfd.readouterr().err
