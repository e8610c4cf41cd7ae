"""Names of settings, and the one rule of which of them make another run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.run_folder.written import SETTINGS, changed, write_run
from vasso_jax.runs import (
    MAY_CHANGE,
    SEEDS,
    RunFolder,
    differences,
    flatten,
    group_runs,
    read_run,
    summary,
)
from vasso_jax.runs.settings import as_json, identity

keys = st.sampled_from(["a", "b", "name", "a_b", "seed"])
values = st.none() | st.integers(0, 2) | st.sampled_from(["", "x", ()]) | st.just([1])
sections = st.recursive(
    values, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=9
)
nested = st.dictionaries(keys, sections, max_size=4)


def unflatten(fields):
    settings = {}
    for name, value in fields.items():
        *path, last = name.split(".")
        section = settings
        for key in path:
            section = section.setdefault(key, {})
        assert last not in section
        section[last] = value
    return settings


def count(settings):
    """How many values and empty sections there are."""
    return sum(count(v) if isinstance(v, dict) and v else 1 for v in settings.values())


def test_fields_are_named_by_their_sections():
    settings = {"method": {"name": "sam", "inner": {"k": (1, 2)}}, "label_noise": {}, "seed": 0}
    assert flatten(settings) == {
        "method.name": "sam",
        "method.inner.k": (1, 2),
        "label_noise": {},
        "seed": 0,
    }


@given(settings=nested)
def test_the_names_are_unique_and_say_where_a_field_belongs(settings):
    fields = flatten(settings)
    assert len(fields) == count(settings)
    assert unflatten(fields) == settings


def test_a_dot_in_a_name_is_refused():
    with pytest.raises(ValueError, match=r"cannot contain a dot: 'method\.rho'"):
        flatten({"method": {"method.rho": 1}})


@given(old=nested, new=nested)
def test_differences_are_of_what_both_know(old, new):
    assert differences(old, as_json(old)) == []
    found = differences(old, new)
    assert found == sorted(found)
    assert len(found) == len(differences(new, old))
    # With all fields known to both, settings with no differences are the same experiment.
    if flatten(old).keys() == flatten(new).keys():
        ours, theirs = flatten(as_json(old)), flatten(as_json(new))
        same = identity(ours | {"seed": 0}) == identity(theirs | {"seed": 0})
        assert (differences(old, new, {"seed"}) == []) == same


def test_fields_come_and_go_with_versions_but_in_a_section_of_the_users_own_they_count():
    ours = [{"method": {"name": "sam", "rho": 1}}, {"method": {"name": "sam", "new": 1}}]
    assert differences(*ours) == []
    own = [{"base": {"name": "my:sgd", "a": 1}}, {"base": {"name": "my:sgd", "b": 2}}]
    assert differences(*own) == ["base.a=1 there, None here", "base.b=None there, 2 here"]
    assert len(differences(own[0], {"base": {"name": "my:sgd"}})) == 1
    inner = [{"base": {"name": "my:sgd", "d": {"a": 1} | more}} for more in ({}, {"b": 2})]
    assert differences(*inner) == ["base.d.b=None there, 2 here"]


def test_a_number_that_is_none_is_no_difference_to_itself():
    assert differences({"clip": float("nan")}, {"clip": float("nan")}) == []
    assert len(differences({"clip": float("nan")}, {"clip": 1.0})) == 1


def test_seeds_of_the_method_alone_make_repetitions(tmp_path):
    drawn = changed(SETTINGS, method__name="ssam")
    for name, seed in (("a", 0), ("b", 1)):
        settings = drawn | {"method": drawn["method"] | {"seed": seed}}
        write_run(tmp_path / name, 0.5, 0.75, settings=settings)
    (group,) = group_runs([read_run(tmp_path / "a"), read_run(tmp_path / "b")])
    assert [run.seeds for run in group.runs] == [(0,), (0, 0, 1, 0)]


def test_seeds_of_different_parts_are_not_taken_for_each_other(tmp_path):
    drawn = changed(SETTINGS, method__name="ssam") | {"validation": {"share": 0.5, "seed": 0}}
    write_run(tmp_path / "a", 0.5, 0.75, settings=drawn | {"method": drawn["method"] | {"seed": 1}})
    write_run(tmp_path / "b", 0.5, 0.75, settings=changed(drawn, validation__seed=1))
    (group,) = group_runs([read_run(tmp_path / "a"), read_run(tmp_path / "b")])
    assert [run.seeds for run in group.runs] == [(0, 0, 1, 0), (0, 0, 0, 1)]


NOISY = SETTINGS | {"label_noise": {"kind": "symmetric", "rate": 0.4, "seed": 0}}
FOLDER = changed(SETTINGS, data__name="folder")
OWN = changed(SETTINGS, data__name="mine.sets:Birds", model__name="mine.nets:Owl")


def other(value):
    """A value that is set, of the same type as far as there is one, and different."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x"
    return (*value, 3) if isinstance(value, tuple) else (value or 0) + 1


def refusal(path, settings):
    """Why the folder cannot be used for these settings; empty if it can."""
    try:
        RunFolder(path).open_for(settings)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("settings", [NOISY, FOLDER, OWN], ids=["noisy", "folder", "own"])
def test_resuming_and_comparing_agree_on_every_field(tmp_path, settings):
    first = write_run(tmp_path / "first", 0.5, 0.75, settings=settings)
    refused = set()
    for name, value in flatten(settings).items():
        if name in ("label_noise", "epochs"):
            continue  # a section; whether the other run has finished
        path = tmp_path / name
        write_run(path, 0.5, 0.75, settings=settings, **{name.replace(".", "__"): other(value)})
        resumed = refusal(first, RunFolder(path).settings())
        runs = [read_run(first), read_run(path)]
        if resumed:
            refused.add(name)
            assert f"({name}=" in resumed
            # With another seed it is another run of the same experiment.
            assert len(group_runs(runs)) == (1 if name in SEEDS else 2), name
        else:
            with pytest.raises(ValueError, match="are the same run"):
                group_runs(runs)
    # What is set aside is what the list says, and every name on it is a field.
    fields = flatten(settings).keys()
    by_folder = {"data.dir"} if settings is not NOISY else set()
    of_own_network = {"model.remat"} if settings is OWN else set()
    assert fields >= MAY_CHANGE
    assert refused == fields - (MAY_CHANGE - by_folder - of_own_network) - {"label_noise", "epochs"}


FACTS = {
    "name": "digits",
    "train_images": 1438,
    "test_images": 359,
    "image_shape": [8, 8, 1],
    "streamed": False,
}


def test_the_summary_of_the_facts():
    assert summary(FACTS) == "digits, 1,438 training and 359 test images of 8x8x1"
    streamed = FACTS | {"streamed": True, "image_shape": (224, 224, 3)}
    assert summary(streamed).endswith("images from disk, cropped to 224x224x3")
    assert summary(FACTS | {"human_labels": "worse"}).endswith("; trained on human labels (worse)")
    noise = {"kind": "symmetric", "rate": 0.5, "seed": 0, "changed_labels": 719}
    assert summary(FACTS | {"label_noise": noise}).endswith(
        "; symmetric label noise changed 719 training labels (50.0%)"
    )
