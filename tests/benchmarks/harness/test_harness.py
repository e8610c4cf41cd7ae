"""Arguments, configs, child processes and results."""

import json

import pytest

from benchmarks.harness import arguments, configs, processes, results
from tests.runs import ROOT


def test_common_arguments_have_their_defaults_and_are_checked(capsys):
    parser = arguments.Parser("What it does.", rounds=3, precision="float32")
    options = parser.parse_args(["--precision", "bfloat16"])
    assert arguments.settings(options) == {"rounds": 3, "precision": "bfloat16"}
    for wrong, message in (
        (["--rounds", "0"], "at least 1"),
        (["--precision", "int8"], "tf32"),
        (["--steps", "2"], "--steps"),
    ):
        with pytest.raises(SystemExit) as stopped:
            parser.parse_args(wrong)
        assert stopped.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert message in line


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path):
    (tmp_path / "file").write_text("")
    parser = arguments.Parser("What it does.")
    assert parser.parse_args([f"--out={tmp_path}/new/folder/x.json"]).out.parent.is_dir()
    for out in (tmp_path, tmp_path / "file" / "x.json"):
        with pytest.raises(OSError, match=str(tmp_path)):
            parser.parse_args([f"--out={out}"])


@pytest.mark.parametrize("content", ["{}", "[1]", "3"])
def test_what_is_no_list_of_records_is_refused(tmp_path, content):
    path = tmp_path / "x.json"
    assert results.read_records(path) == results.read_records(None) == []
    path.write_text(content)
    with pytest.raises(ValueError, match="holds something else than records: give another"):
        results.read_records(path)


def test_an_error_that_the_user_can_fix_is_one_message(capsys):
    @arguments.one_message()
    def command():
        raise OSError("disk full")

    with pytest.raises(SystemExit) as stopped:
        command()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: disk full\n"


def test_a_config_is_read_as_by_main():
    flags = [f"--config={ROOT}/configs/digits.py:asam", "--config.method.eta=0.1"]
    config = configs.read_config([*flags, "--config.epochs=3"])
    assert config.method.to_dict() == {"name": "asam", "rho": 0.5, "eta": 0.1}
    assert config.epochs == 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give an experiment"),
        (["--config=configs/none.py"], "none.py"),
        (["--config=configs/digits.py", "--rho=1"], "rho"),
        (["--config=configs/digits.py", "rho"], "what is 'rho'"),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_read_is_one_line(flags, message):
    with pytest.raises(ValueError, match=message) as error:
        configs.read_config(flags)
    assert "\n" not in str(error.value)


def test_a_child_process_runs_the_code_of_this_clone():
    code = "import os, vasso_jax; print(vasso_jax.__file__, os.environ['EXTRA'])"
    path, extra = processes.python("-c", code, variables={"EXTRA": "set"}).split()
    assert path == str(ROOT / "vasso_jax/__init__.py")
    assert extra == "set"
    with pytest.raises(ValueError, match=r"^no such thing$"):
        processes.python("-c", "import sys; sys.exit('warning\\nerror: no such thing')")


def test_a_result_is_replaced_whole(tmp_path):
    path = tmp_path / "new/result.json"
    results.write_json(path, {"ratio": 1.5})
    with pytest.raises(ValueError, match="JSON"):
        results.write_json(path, {"ratio": float("nan")})
    assert results.read_json(path) == json.loads(path.read_text()) == {"ratio": 1.5}
    assert [file.name for file in path.parent.iterdir()] == ["result.json"]
    path.write_text("{")
    for file, message in ((path, "damaged"), (tmp_path / "none.json", "missing")):
        with pytest.raises(ValueError, match=message):
            results.read_json(file)
