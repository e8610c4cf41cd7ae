"""Learning curves: what is drawn of one run and of groups of runs, with units and legends."""

import pytest
from matplotlib.figure import Figure

from tests.run_folder.written import write_run, write_two_methods
from vasso_jax.runs import (
    RunFolder,
    group_runs,
    plot_curves,
    plot_groups,
    read_run,
    series,
)


@pytest.fixture
def two_methods(tmp_path):
    return write_two_methods(tmp_path)


def test_curves_are_drawn_with_what_the_records_have(tmp_path):
    records = RunFolder(write_run(tmp_path / "run", 0.5, 0.75)).records()
    plot_curves(records, tmp_path / "plain.png", "a run")
    with_cosine = [r | {"cosine": 0.5, "lr": 0.1} for r in records]
    plot_curves(with_cosine, tmp_path / "cosine.png", "a run")
    images = [(tmp_path / name).read_bytes() for name in ("plain.png", "cosine.png")]
    assert all(image.startswith(b"\x89PNG") and len(image) > 5000 for image in images)
    widths = [int.from_bytes(image[16:20], "big") for image in images]
    assert widths[1] / widths[0] == pytest.approx(4 / 3, rel=0.01)  # one more panel


def test_a_picture_is_not_written_over_a_folder_nor_beside_it(tmp_path, two_methods):
    (tmp_path / "pictures").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match="pictures cannot be written"):
        plot_groups(group_runs(map(read_run, two_methods)), tmp_path / "pictures")
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def pictures(monkeypatch):
    """The figures that are saved from now on."""
    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: saved.append(figure))
    return saved


def legend_of(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_the_picture_of_a_run_has_units_and_a_legend_in_each_panel(tmp_path, pictures):
    records = RunFolder(write_run(tmp_path / "run", 0.5, 0.75)).records()
    plot_curves([r | {"lr": 0.1} for r in records], tmp_path / "x.png", "a run")
    loss, top1, lr = pictures[0].axes
    assert [axes.get_ylabel() for axes in (loss, top1)] == [
        "cross-entropy, nats",
        "top-1 accuracy, %",
    ]
    assert [axes.get_title() for axes in (loss, lr)] == ["loss", "learning rate"]
    assert [list(line.get_ydata()) for line in top1.get_lines()] == [[100, 100], [50, 75]]
    assert legend_of(loss) == legend_of(top1) == ["train", "test"]
    assert legend_of(lr) == ["train"]


def test_the_picture_of_groups_says_what_its_bands_are(two_methods, tmp_path, pictures):
    plot_groups(group_runs(map(read_run, two_methods)), tmp_path / "x.png")
    (axes,) = pictures[0].axes
    assert (axes.get_title(), axes.get_ylabel()) == ("test top-1 accuracy", "top-1 accuracy, %")
    assert legend_of(axes) == ["vasso theta=0.4", "sam"]
    assert axes.get_legend().get_title().get_text() == (
        "band: +- one standard deviation over 2-3 runs"
    )
    assert [list(line.get_ydata()) for line in axes.get_lines()] == [[50, 75], [25, 25]]
    # VaSSO's values are 75, 25, 50, then 50, 75, 100: a deviation of 25.
    corners = {tuple(corner) for corner in axes.collections[0].get_paths()[0].vertices}
    assert corners == {(1, 25), (1, 75), (2, 50), (2, 100)}


def test_means_are_over_epochs_that_all_have():
    found = series.means([{1: 2.0, 2: 4.0, 3: 9.0}, {2: 6.0, 1: 2.0}])
    assert [(epoch, value.mean, value.n) for epoch, value in found.items()] == [
        (1, 2, 2),
        (2, 5, 2),
    ]
    low, high = series.band(found)
    assert (low, high) == (pytest.approx([2, 5 - 2**0.5]), pytest.approx([2, 5 + 2**0.5]))


def test_no_two_of_many_groups_look_the_same():
    assert len({series.style(i) for i in range(28)}) == 28
