"""The points of a sweep: their order, their names, and fields that not all of them have."""

import contextlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vasso_jax.sweep import Point, make_points, own_points


def everywhere(method, fields):
    return []


def not_for_none(method, fields):
    return [field for field in fields if method == "none" and field.startswith("method.")]


def test_all_combinations_are_there_in_order():
    own = [{"base.lr": 0.1}, {"base.lr": 0.2, "method.theta": 0.4}]
    points, notes = make_points(own, ["sam", "vasso"], {"method.rho": [1, 2]}, 2, everywhere)
    assert notes == []
    assert points[:5] == [
        Point("sam_lr0.1_rho1_seed0", "sam", {"base.lr": 0.1, "method.rho": 1, "seed": 0}),
        Point("sam_lr0.1_rho1_seed1", "sam", {"base.lr": 0.1, "method.rho": 1, "seed": 1}),
        Point("sam_lr0.1_rho2_seed0", "sam", {"base.lr": 0.1, "method.rho": 2, "seed": 0}),
        Point("sam_lr0.1_rho2_seed1", "sam", {"base.lr": 0.1, "method.rho": 2, "seed": 1}),
        Point("vasso_lr0.1_rho1_seed0", "vasso", {"base.lr": 0.1, "method.rho": 1, "seed": 0}),
    ]
    assert points[8].name == "sam_lr0.2_theta0.4_rho1_seed0"
    assert len(points) == 16


@pytest.mark.parametrize(
    ("grid", "names"),
    [
        ({"base.lr": [1e-4, 0.1, 1.0]}, ["lr0.0001", "lr0.1", "lr1"]),
        ({"base.lr": [1 / 3, 1e-7]}, ["lr0.3333333333333333", "lr1e-07"]),
        ({"batch_size": [1234567], "seed": [3]}, ["batch_size1234567_seed3"]),
        ({"model.name": ["resnet18", "nets.own:Net"]}, ["resnet18", "nets.own-Net"]),
        ({"data.dir": ["/a/b", ".."]}, ["dira-b", "dirempty"]),
        ({"schedule.milestones": [(5, 8)], "augment.flip": [True]}, ["milestones5-8_flipTrue"]),
        # Where short names would be the same.
        ({"seed": [1], "label_noise.seed": [2]}, ["seed1_label_noise.seed2"]),
        ({"data.dir": ["/a", "a"]}, ["0_dira", "1_dira"]),
        ({"model.name": ["VGG", "vgg"]}, ["0_VGG", "1_vgg"]),
    ],
)
def test_names_are_readable(grid, names):
    points, _ = make_points([{}], [], grid, None, everywhere)
    assert [point.name for point in points] == names


values = st.lists(st.booleans() | st.integers() | st.floats() | st.text(max_size=4), max_size=3)
fields = st.sampled_from(["a.name", "a.x", "b.name", "b.x", "x", "seed"])


@settings(max_examples=50)
@given(
    own=st.lists(st.dictionaries(fields, st.text(max_size=2), max_size=2), min_size=1, max_size=3),
    methods=st.lists(st.text(min_size=1, max_size=3), max_size=2),
    grid=st.dictionaries(fields, values.filter(len), max_size=2),
    lacking=st.sets(fields),
)
def test_names_are_unique_fit_for_files_and_always_the_same(own, methods, grid, lacking):
    def missing(method, given):
        return [field for field in given if field in lacking and method == (methods or [None])[0]]

    with contextlib.suppress(ValueError):  # twice the same, or by two ways
        points, notes = make_points(own, methods, grid, None, missing)
        assert (points, notes) == make_points(own, methods, grid, None, missing)
        names = [point.name for point in points]
        assert len({name.casefold() for name in names}) == len(names)
        assert all("/" not in name and "\0" not in name and name.strip(".") for name in names)


def test_a_field_is_left_out_where_there_is_none():
    grid = {"method.rho": [0.1, 0.2]}
    points, notes = make_points([{}], ["none", "sam"], grid, 2, not_for_none)
    assert [point.name for point in points] == [
        *("none_seed0", "none_seed1"),
        *(f"sam_rho{rho}_seed{seed}" for rho, seed in itertools.product((0.1, 0.2), (0, 1))),
    ]
    assert points[0].fields == {"seed": 0}
    assert notes == ["method.rho is left out for none, without such a field"]


def test_a_field_that_is_nowhere_is_left_to_be_refused():
    points, notes = make_points([{}], ["none"], {"method.rho": [0.1]}, None, not_for_none)
    assert (points, notes) == ([Point("none_rho0.1", "none", {"method.rho": 0.1})], [])


def test_what_is_there_twice_is_refused():
    with pytest.raises(ValueError, match=r"sam base.lr=1.0 is there twice: leave one out"):
        make_points([{}], ["sam"], {"base.lr": [1, 2, 1.0]}, None, everywhere)
    with pytest.raises(ValueError, match=r"base.lr is swept by sweep\(add\) and by --set"):
        make_points([{"base.lr": 1}], [], {"base.lr": [1]}, None, everywhere)


def test_a_config_adds_points_of_its_own(tmp_path):
    file = tmp_path / "config.py"
    file.write_text(
        "RADII = (0.05, 0.1)\n"
        "def sweep(add):\n"
        "    for rho in RADII:\n"
        '        add(**{"method.rho": rho})\n'
        "    add(epochs=3)\n"
    )
    assert own_points(file) == [{"method.rho": 0.05}, {"method.rho": 0.1}, {"epochs": 3}]
    file.write_text("def get_config(): pass")
    assert own_points(file) == [{}]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("pass", r"adds no point: call add\(\), or leave it out"),
        ("add(1 / 0)", r"ZeroDivisionError.*config.py, line 2.*called as sweep\(add\)"),
        ("add(1)", r"TypeError.*config.py, line 2"),
    ],
)
def test_points_that_cannot_be_made_are_one_message(tmp_path, code, message):
    file = tmp_path / "config.py"
    file.write_text(f"def sweep(add):\n    {code}\n")
    with pytest.raises(ValueError, match=message):
        own_points(file)
