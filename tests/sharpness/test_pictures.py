"""What the pictures show, by what they are drawn from."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vasso_jax.sharpness import (
    Curve,
    Density,
    Line,
    Plane,
    plot_curves,
    plot_densities,
    plot_lines,
    plot_plane,
)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda figure, *args, **kw: (figures.append(figure), save(figure, *args, **kw)),
    )
    return figures


def test_curves_have_a_band_where_there_are_several_directions(drawn, tmp_path):
    distances = np.array([0.0, 1.0])
    curves = {
        "SAM": Curve(distances, np.array([[0.0, 2.0]]), 1.0),
        "random": Curve(distances, np.array([[0.0, 1.0], [0.0, 3.0], [0.0, 2.0]]), 1.0),
    }
    plot_curves(curves, tmp_path / "a.png")
    (axes,) = drawn[0].axes
    for one, expected in zip(axes.lines, ([0, 2], [0, 2]), strict=True):
        np.testing.assert_array_equal(one.get_ydata(), expected)
    (band,) = axes.collections
    corners = {(x, y) for x, y in band.get_paths()[0].vertices}
    assert corners == {(0, 0), (1, 1), (1, 3)}  # the deviation of 1, 2 and 3 is 1
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["SAM", "random"]
    assert legend.get_title().get_text() == "band: +- one standard deviation over 3 directions"
    with Image.open(tmp_path / "a.png") as image:
        assert image.size[0] > 300
    plot_curves({"SAM": curves["SAM"]}, tmp_path / "b.png")
    assert not drawn[1].axes[0].get_legend().get_title().get_text()


def test_lines_are_drawn_as_they_are(drawn, tmp_path):
    lines = {"SGD": Line(np.array([0.0, 0.5, 1.0]), np.array([3.0, np.inf, 1.0]))}
    plot_lines(lines, tmp_path / "a.svg", "share of the way")
    (axes,) = drawn[0].axes
    assert axes.get_xlabel() == "share of the way"
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [3, np.inf, 1])
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_lines({}, tmp_path / "b.svg", "x")


def test_contours_are_even_in_the_logarithm_and_leave_out_what_has_none(drawn, tmp_path):
    x, y = np.linspace(-1, 1, 5), np.linspace(0, 3, 4)
    losses = 0.01 + x**2 + y[:, None] ** 2
    losses[0, 0], losses[3, 4] = np.nan, 0.0
    plot_plane(Plane(x, y, losses, np.array([[0.0, 1.0]])), tmp_path / "a.png", ("u", "v"))
    axes, bar = drawn[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("u", "v")
    levels = axes.collections[0].levels
    np.testing.assert_allclose(np.diff(np.log(levels)), np.log(levels[1] / levels[0]))
    np.testing.assert_allclose(levels[[0, -1]], [0.01, losses[3, 0]])
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[0, 1]])
    assert bar.get_ylabel() == "loss, log scale"


def flat(loss, size):
    positions = np.arange(float(size))
    return Plane(positions, positions, np.full((size, size), loss), np.zeros((1, 2)))


def test_a_plane_that_cannot_be_drawn_is_refused(tmp_path):
    for plane, message in (
        (flat(1.0, 1), "two positions per axis"),
        (flat(0.0, 2), "finite and positive"),
        (flat(np.nan, 2), "finite and positive"),
    ):
        with pytest.raises(ValueError, match=message):
            plot_plane(plane, tmp_path / "a.png", ("x", "y"))


def test_a_flat_plane_can_be_drawn(tmp_path):
    plot_plane(flat(1.0, 2), tmp_path / "a.png", ("x", "y"))
    assert (tmp_path / "a.png").exists()


def test_densities_share_their_axes(drawn):
    one = Density(np.array([0.0, 3.0]), np.array([0.25, 0.75]), 2)
    point = Density(np.array([1.0]), np.array([1.0]), 1)
    files = io.BytesIO(), io.BytesIO()
    plot_densities({"one": one, "point": point}, files[0], width=0.1)
    plot_densities({"point": point}, files[1])
    assert all(file.getvalue().startswith(b"\x89PNG") for file in files)
    (axes,) = drawn[0].axes
    first, second = (line.get_xydata() for line in axes.lines)
    np.testing.assert_array_equal(first[:, 0], second[:, 0])
    np.testing.assert_allclose(
        first[first[:, 1].argmax()], [3, 0.75 / (0.1 * np.sqrt(2 * np.pi))], 1e-2
    )
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_densities({}, io.BytesIO())
    with pytest.raises(ValueError, match="width must be a positive number, got 0"):
        plot_densities({"point": point}, io.BytesIO(), width=0)
