"""The run folder: which run may use it, its format, and its files."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.run_folder.written import SAM, SETTINGS, VASSO, changed, write_run
from vasso_jax.runs import FORMAT, RunFolder, read_run, write_text
from vasso_jax.runs.settings import as_json

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.lists(st.integers()).map(tuple)
)
keys = st.from_regex(r"[a-z_]{1,6}", fullmatch=True).filter(lambda key: key != "format")
nested = st.dictionaries(
    keys, leaves | st.dictionaries(keys, leaves | st.dictionaries(keys, leaves)), max_size=4
)


def begin(path, settings=SETTINGS, facts=None):
    """The folder of a run that has written a record."""
    folder = RunFolder(path)
    folder.open_for(settings)
    folder.write_facts(settings, facts or {})
    folder.metrics_path.write_text("{}")
    return folder


@given(settings=nested, facts=nested)
def test_settings_and_facts_are_read_as_they_were_written(tmp_path_factory, settings, facts):
    folder = begin(tmp_path_factory.mktemp("run"), settings, facts)
    assert folder.settings() == as_json(settings)
    assert folder.facts() == as_json(facts)
    # And the same run goes on.
    folder.open_for(settings)
    folder.write_facts(settings, facts)
    assert {path.name for path in folder.path.iterdir()} == {
        *("config.json", "dataset.json", "metrics.jsonl", "checkpoints")
    }


def test_the_folder_takes_the_same_run_only(tmp_path):
    folder = begin(tmp_path)
    folder.open_for(changed(SETTINGS, data__dir="b"))
    with pytest.raises(ValueError, match=r"other settings \(base.lr=0.05 there, 0.2 here\)"):
        folder.open_for(changed(SETTINGS, base__lr=0.2))
    with pytest.raises(ValueError, match=r"\(epochs=2 there, 3 here; method.rho=0.1 there, 0.2 h"):
        folder.open_for(changed(SETTINGS, method__rho=0.2, epochs=3))
    # A field that only one version of the code knows is no difference.
    folder.open_for(SETTINGS | {"new": 1})
    folder.open_for({"epochs": 2})


def test_another_method_is_a_difference_however_few_fields_it_has(tmp_path):
    folder = begin(tmp_path)
    with pytest.raises(ValueError, match=r"\(method.name='vasso' there, 'sam' here\)"):
        folder.open_for(SETTINGS | {"method": SAM})
    # Of the same method, a field may have come.
    folder.open_for(changed(SETTINGS, method__new=1))


def test_a_section_may_come_but_not_be_filled_or_emptied(tmp_path):
    folder = begin(tmp_path)
    folder.open_for(SETTINGS | {"warmup": {"epochs": 5}})
    folder.open_for({name: value for name, value in SETTINGS.items() if name != "label_noise"})
    noise = {"kind": "symmetric", "rate": 0.4, "seed": 0}
    with pytest.raises(ValueError, match=r"\(label_noise={} there, {'kind': 'symmetric'"):
        folder.open_for(SETTINGS | {"label_noise": noise})
    folder = begin(tmp_path / "noisy", SETTINGS | {"label_noise": noise})
    with pytest.raises(ValueError, match=r"'symmetric', .* there, {} here\)"):
        folder.open_for(SETTINGS)
    with pytest.raises(ValueError, match=r"\(label_noise.seed=0 there, 1 here\)"):
        folder.open_for(SETTINGS | {"label_noise": noise | {"seed": 1}})


def test_a_folder_where_nothing_has_begun_takes_any_run(tmp_path):
    folder = RunFolder(tmp_path / "new" / "run")
    assert not folder.has_begun()
    folder.open_for(SETTINGS)
    folder.write_facts(SETTINGS, {})
    # As a run leaves it that diverged, or was killed, before anything was saved.
    folder.metrics_path.touch()
    (folder.checkpoints_path / "3.orbax-checkpoint-tmp").mkdir()
    assert not folder.has_begun()
    folder.open_for(changed(SETTINGS, base__lr=0.2))
    # A complete checkpoint is a beginning without any record.
    for step in ("12", "3"):
        (folder.checkpoints_path / step).mkdir()
    assert folder.saved_steps() == [3, 12]
    with pytest.raises(ValueError, match="other settings"):
        folder.open_for(changed(SETTINGS, base__lr=0.2))


@pytest.mark.parametrize(
    ("name", "may_move"),
    [("cifar10", True), ("folder", False), ("npz", False), ("mine.sets:Birds", False)],
)
def test_copies_of_named_sets_may_move_and_folders_may_not(tmp_path, name, may_move):
    settings = changed(SETTINGS, data__name=name, data__dir="/a")
    folder = begin(tmp_path, settings)
    moved = changed(settings, data__dir="/b")
    if may_move:
        folder.open_for(moved)
    else:
        with pytest.raises(ValueError, match=r"data\.dir='/a' there, '/b' here"):
            folder.open_for(moved)


def test_a_run_does_not_go_on_with_other_data(tmp_path):
    folder = RunFolder(tmp_path)
    folder.open_for(SETTINGS)
    folder.write_facts(SETTINGS, {"train_images": 5, "class_names": ("a", "b")})
    # Nothing has begun yet.
    folder.write_facts(SETTINGS, {"train_images": 6, "class_names": ("a", "b")})
    folder.metrics_path.write_text("{}")
    folder.write_facts(SETTINGS, {"train_images": 6, "class_names": ("a", "b")})
    with pytest.raises(ValueError, match="train_images=6 there, 7 here"):
        folder.write_facts(SETTINGS, {"train_images": 7, "class_names": ("a", "b")})
    with pytest.raises(ValueError, match="class_names="):
        folder.write_facts(SETTINGS, {"train_images": 6, "class_names": ("b", "a")})


def test_the_config_carries_its_format(tmp_path):
    folder = begin(tmp_path)
    assert json.loads(folder.config_path.read_text()) == {"format": FORMAT, **as_json(SETTINGS)}
    with pytest.raises(ValueError, match="cannot have a field called format"):
        folder.write_facts(SETTINGS | {"format": 2}, {})


OLDER = "was written by an older version of vasso_jax"
NEWER = "needs a newer vasso_jax"


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ({}, OLDER),
        ({"format": 1}, OLDER),
        ({"format": FORMAT + 1}, NEWER),
        ({"format": "2"}, "is damaged"),
        ({"format": None}, "is damaged"),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_other_formats_are_refused(tmp_path, marker, message, begun):
    folder = begin(tmp_path)
    if not begun:
        folder.metrics_path.unlink()
    before = json.dumps(as_json(SETTINGS) | marker)
    folder.config_path.write_text(before)
    with pytest.raises(ValueError, match=f"{message}.*give another --workdir"):
        folder.open_for(SETTINGS)
    for read in (lambda: read_run(tmp_path), folder.settings):
        with pytest.raises(ValueError, match=f"{message}.*leave this run out"):
            read()
    assert folder.config_path.read_text() == before


def test_a_run_of_the_flat_settings_of_old_is_refused(tmp_path):
    folder = RunFolder(tmp_path)
    folder.path.joinpath("config.json").write_text('{"optimizer": "vasso", "rho": 0.1}')
    folder.metrics_path.write_text("{}")
    with pytest.raises(ValueError, match=OLDER):
        folder.open_for(SETTINGS)


def test_a_run_without_its_config_is_not_taken_for_another(tmp_path):
    path = write_run(tmp_path / "run", 0.5)
    RunFolder(path).config_path.unlink()
    with pytest.raises(ValueError, match=r"config\.json is missing: bring it back"):
        RunFolder(path).open_for(SETTINGS)


DEEP = '{"a":' * 9999 + "1" + "}" * 9999
# Few enough levels for Python, and too many for what walks through them.
DEEPER_THAN_OURS = '{"a":' * 200 + "1" + "}" * 200


@pytest.mark.parametrize("text", ["{", "[1]", "[]", "1", "", "\xff", DEEP, DEEPER_THAN_OURS])
def test_a_damaged_config_is_named(tmp_path, text):
    folder = begin(tmp_path)
    folder.config_path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config\.json is damaged.*give another --workdir"):
        folder.open_for(SETTINGS)
    folder.dataset_path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"dataset\.json is damaged"):
        folder.write_facts(SETTINGS, {})


def test_readers_name_what_is_missing(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(ValueError, match=r"is not a run folder \(no config\.json\): fix it"):
        folder.settings(remedy="fix it")
    with pytest.raises(ValueError, match=r"dataset\.json is missing: fix it"):
        folder.facts(remedy="fix it")
    assert folder.records() == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/run cannot be written \(Not a directory\)"):
        RunFolder(tmp_path / "file" / "run").open_for(SETTINGS)


def test_settings_that_json_cannot_hold_are_refused(tmp_path):
    folder = begin(tmp_path)
    with pytest.raises(ValueError, match="must be valid JSON"):
        folder.open_for(SETTINGS | {"method": VASSO | {"rho": print}})


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    write_text(path, "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match=r"config\.json cannot be written \(No space left\)"):
        write_text(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
    assert path.read_text() == "old"
