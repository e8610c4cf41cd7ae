"""What makes another run, and that no run is lost to one."""

import shutil

import jax
import optax
import pytest

from tests.train.own_parts import HERE, Linear, config, halves
from vasso_jax import runs
from vasso_jax.train import UsageError, check, train

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("other", [{"second": 2}, {}, {"first": 1, "second": 2}])
def test_a_run_with_other_fields_of_an_own_function_is_another_run(tmp_path, other):
    base = {"name": f"{HERE}:any_sgd"}

    def made(fields):
        return config(
            data={"name": f"{HERE}:halves"}, model={"name": f"{HERE}:Linear"}, base=base | fields
        )

    train(made({"first": 1}), str(tmp_path / "run"))
    with pytest.raises(UsageError, match=r"other settings .*base\."):
        train(made(other), str(tmp_path / "run"))


def test_results_without_a_checkpoint_are_not_overwritten(tmp_path, capsys):
    made = config(data={"name": f"{HERE}:halves"}, model={"name": f"{HERE}:Linear"})
    train(made, str(tmp_path / "run"))
    records = tmp_path / "run/metrics.jsonl"
    lines = records.read_text()
    shutil.rmtree(tmp_path / "run/checkpoints")
    capsys.readouterr()
    with pytest.raises(UsageError, match="holds 2 epochs, but there is no checkpoint: bring"):
        train(made, str(tmp_path / "run"))
    assert records.read_text() == lines
    assert not capsys.readouterr().out  # before the data is read
    # A run that was killed between its first records and its first checkpoint starts anew.
    records.write_text("".join(lines.splitlines(keepends=True)[:1]))
    train(made, str(tmp_path / "run"))
    assert len(records.read_text().splitlines()) == len(lines.splitlines())


def test_a_short_run_that_was_killed_before_its_only_checkpoint_starts_anew(tmp_path):
    made = config(data={"name": f"{HERE}:halves"}, model={"name": f"{HERE}:Linear"}, epochs=1)
    result = train(made, str(tmp_path / "run"))
    shutil.rmtree(tmp_path / "run/checkpoints")
    again = train(made, str(tmp_path / "run"))
    assert again["test_loss"] == result["test_loss"]
    assert (tmp_path / "run/checkpoints").is_dir()


def test_schedules_with_other_numbers_make_other_runs():
    settings = [
        check(config(method={"name": "sam", "rho": optax.linear_schedule(0.1, end, 9)})).settings
        for end in (0.0, 0.0, 0.05)
    ]
    assert settings[0] == settings[1] != settings[2]


def test_statistics_of_each_device_hold_a_run_to_its_number_of_devices(tmp_path):
    def settings_on(devices, over):
        made = config(batch_stats_over=over)
        of_run = jax.devices()[:devices]
        return check(made, model=Linear(2), dataset=halves(), devices=of_run).settings

    for over, others in (("batch", [1, 2, 4]), ("device", [4])):
        folder = runs.RunFolder(tmp_path / over)
        folder.open_for(settings_on(4, over))
        folder.write_facts(settings_on(4, over), {})
        folder.metrics_path.write_text("{}\n")  # it has begun
        for devices in others:
            folder.open_for(settings_on(devices, over))
    with pytest.raises(ValueError, match="batch_stats_devices=4 there, 2 here"):
        folder.open_for(settings_on(2, "device"))


def test_a_refused_run_leaves_a_folder_that_was_there(tmp_path):
    (tmp_path / "kept").mkdir()
    for folder in ("kept", "new"):
        with pytest.raises(UsageError, match="no data set"):
            train(config(data={"name": f"{HERE}:nowhere_to_be_read"}), str(tmp_path / folder))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
