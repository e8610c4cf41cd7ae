"""Lines and planes of the loss, against quadratics that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.sharpness.small_losses import classification, of_function, quadratic, six, weights
from vasso_jax.sharpness import filter_normalized, interpolation, line, plane, surface

MATRIX = np.diag([5.0, 1.0, 0.5, 2.0, 0.0, 3.0])
E = np.eye(6)


def value(x):
    return 0.5 * x @ MATRIX @ x


def test_filters_of_the_direction_have_the_norms_of_the_parameters():
    rng = np.random.default_rng(0)
    params = {
        "conv": {"kernel": rng.normal(size=(3, 3, 2, 4)) * [1, 2, 3, 0], "bias": np.ones(4)},
        "head": {"kernel": rng.normal(size=(4, 5)), "bias": np.ones((2, 3))},
        "norm": {"scale": np.ones(4), "bias": np.ones(4)},
    }
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    d = filter_normalized(params, seed=0)
    for name in ("conv", "head"):
        norms = [
            np.sqrt(
                np.square(tree[name]["kernel"]).reshape(-1, tree[name]["kernel"].shape[-1]).sum(0)
            )
            for tree in (d, params)
        ]
        np.testing.assert_allclose(norms[0], norms[1], rtol=1e-5)
        assert not np.allclose(d[name]["kernel"], params[name]["kernel"])
    for zero in (d["conv"]["bias"], d["head"]["bias"], *d["norm"].values()):
        assert not zero.any()
    other = filter_normalized(params, seed=1)
    assert not np.allclose(d["head"]["kernel"], other["head"]["kernel"])
    with pytest.raises(ValueError, match="a kernel"):
        filter_normalized(params["norm"], seed=0)


def test_a_filter_of_attention_is_one_output_of_one_head():
    rng = np.random.default_rng(0)
    heads = rng.normal(size=(6, 2, 3)) * [[[1, 2, 3], [4, 5, 6]]]
    params = {
        "query": {"kernel": heads, "bias": np.ones((2, 3))},
        "out": {"kernel": rng.normal(size=(2, 3, 6)), "bias": np.ones(6)},
        "bare": {"kernel": heads},
        "list": [rng.normal(size=(4, 5))],
    }
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    d = filter_normalized(params, seed=0)
    for name, inputs in (("query", 0), ("out", (0, 1)), ("bare", (0, 1))):
        norms = [np.sqrt(np.square(t[name]["kernel"]).sum(inputs)) for t in (d, params)]
        np.testing.assert_allclose(norms[0], norms[1], rtol=1e-5)
    assert not d["query"]["bias"].any()


def test_a_filter_normalised_slice_does_not_depend_on_the_scales_of_layers():
    objective, w = classification(), weights()
    w["b1"] = jnp.zeros(8)
    scaled = {"w1": 4 * w["w1"], "b1": w["b1"], "w2": w["w2"] / 4}
    x = [-0.5, 0.0, 1.0]
    lines = [line(objective, p, filter_normalized(p, 0), x).losses for p in (w, scaled)]
    np.testing.assert_allclose(lines[0], lines[1], rtol=1e-4)
    np.testing.assert_allclose(lines[0][1], float(objective.value(w)), rtol=1e-6)


def test_a_line_goes_along_the_direction_as_it_is():
    reports = []
    found = line(
        quadratic(MATRIX),
        six(E[1]),
        six(2 * E[0]),
        [-1.0, 0.0, 0.5],
        progress=lambda *args: reports.append(args),
    )
    expected = [value(E[1] + x * 2 * E[0]) for x in (-1, 0, 0.5)]
    np.testing.assert_allclose(found.losses, expected, rtol=1e-6)
    np.testing.assert_array_equal(found.x, [-1, 0, 0.5])
    assert reports == [(1, 3), (2, 3), (3, 3)]


def test_an_interpolation_begins_and_ends_at_its_points():
    start, end = np.array([1.0, 2, 0, 0, 5, 1]), np.array([0.1, -1, 3, 1, 0, 1])
    x = [0.0, 0.25, 1.0, 1.5]
    found = interpolation(quadratic(MATRIX), six(start), six(end), x)
    np.testing.assert_allclose(
        found.losses, [value((1 - t) * start + t * end) for t in x], rtol=1e-5
    )
    for t, params in ((0, start), (2, end)):
        assert found.losses[t] == float(quadratic(MATRIX).value(six(params)))


def test_statistics_beside_the_parameters_are_interpolated_with_them():
    objective = of_function(lambda tree: (tree["params"] * tree["mean"]).sum())
    trees = [
        {"params": jnp.full(2, p), "mean": jnp.full(2, m)} for p, m in ((1.0, 0.0), (3.0, 4.0))
    ]
    found = interpolation(objective, *trees, [0.5])
    assert found.losses == [2 * 2.0 * 2.0]


def test_a_surface_has_its_first_axis_in_the_columns():
    x, y = [-1.0, 0.0, 2.0], [0.0, 0.5]
    found = surface(quadratic(MATRIX), six(E[1]), (six(E[0]), six(E[3])), x, y)
    expected = [[value(E[1] + a * E[0] + b * E[3]) for a in x] for b in y]
    np.testing.assert_allclose(found.losses, expected, rtol=1e-6)
    np.testing.assert_array_equal(found.points, [[0, 0]])


def test_the_plane_goes_through_its_points_and_keeps_distances():
    a, b = np.array([1.0, 0, 2, 0, 0, 1]), np.array([0, 1.0, 0, 1, 3, 0])
    c = np.array([2.0, 2, 2, 0, 1, -1])
    found = plane(quadratic(MATRIX), (six(a), six(b), six(c)), size=5, margin=0.25)
    p = found.points
    for (i, x), (j, y) in (((0, a), (1, b)), ((0, a), (2, c)), ((1, b), (2, c))):
        np.testing.assert_allclose(np.linalg.norm(p[i] - p[j]), np.linalg.norm(x - y), rtol=1e-5)
    np.testing.assert_array_equal(p[0], [0, 0])
    assert p[1, 1] == 0
    # The margin is a quarter of the extent on each side.
    for axis, values in enumerate((found.x, found.y)):
        low, high = p[:, axis].min(), p[:, axis].max()
        ends = low - 0.25 * (high - low), high + 0.25 * (high - low)
        np.testing.assert_allclose(values[[0, -1]], ends)
    # Coordinates solve for the weights of the three points.
    for i, y in enumerate(found.y):
        for j, x in enumerate(found.x):
            share = np.linalg.solve((p[1:] - p[0]).T, [x, y])
            at = a + share @ np.stack([b - a, c - a])
            np.testing.assert_allclose(found.losses[i, j], value(at), rtol=1e-3, atol=1e-3)


def test_points_on_one_line_make_no_plane():
    a, b = np.ones(6), np.arange(6.0)
    for third in (a, b, 0.3 * a + 0.7 * b):
        with pytest.raises(ValueError, match="do not lie on one line"):
            plane(quadratic(MATRIX), (six(a), six(b), six(third)), size=2)
    with pytest.raises(ValueError, match="do not lie on one line"):
        plane(quadratic(MATRIX), (six(a), six(a), six(b)), size=2)


def test_a_loss_that_is_not_finite_far_away_is_shown_as_such():
    objective = of_function(lambda w: jnp.log(w).sum())
    found = line(objective, jnp.ones(2), jnp.ones(2), [-2.0, 0.0])
    assert np.isnan(found.losses[0])
    assert found.losses[1] == 0


def test_what_cannot_be_sliced_is_refused():
    objective, w, d = quadratic(MATRIX), six(np.ones(6)), six(E[0])
    broken = six([np.nan] * 6)
    for points in ((broken, d), (w, broken)):
        with pytest.raises(ValueError, match="finite"):
            line(objective, *points, [0.0])
        with pytest.raises(ValueError, match="finite"):
            interpolation(objective, *points, [0.0])
        with pytest.raises(ValueError, match="finite"):
            plane(objective, (w, *points))
    with pytest.raises(ValueError, match="finite"):
        surface(objective, w, (d, broken), [0.0], [0.0])
    other = {"a": jnp.ones(2)}
    with pytest.raises(ValueError, match="end must have the structure"):
        interpolation(objective, w, other, [0.0])
    with pytest.raises(ValueError, match="directions must have the structure"):
        surface(objective, w, (d, other), [0.0], [0.0])
    with pytest.raises(ValueError, match=r"points\[2\] must have the structure"):
        plane(objective, (w, d, other))
    with pytest.raises(ValueError, match="size must be an integer of at least 2"):
        plane(objective, (w, d, six(E[1])), size=1)
    for margin in (-0.1, "x"):
        with pytest.raises(ValueError, match="margin must be a number of at least 0"):
            plane(objective, (w, d, six(E[1])), margin=margin)
    for points, found in (((w, d), "2"), ((w, d, w, d), "4"), (w, "a dict")):
        with pytest.raises(ValueError, match=f"points must be a tuple of 3 trees .* got {found}"):
            plane(objective, points)
    for directions, found in (((d,), "1"), ((d, d, d), "3"), (d, "a dict")):
        with pytest.raises(ValueError, match=f"directions must be .* 2 trees .* got {found}"):
            surface(objective, w, directions, [0.0], [0.0])
    with pytest.raises(ValueError, match="seed must be an integer of at least 0"):
        filter_normalized(w, seed="x")
    with pytest.raises(ValueError, match="y must be a list of finite numbers"):
        surface(objective, w, (d, d), [0.0], [])
