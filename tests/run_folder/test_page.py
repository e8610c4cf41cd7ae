"""The page about a comparison: what it shows, and that it loads and runs nothing else."""

import html.parser
import json
import re

import pytest

from tests.run_folder.written import SAM, SETTINGS, write_run, write_two_methods
from vasso_jax.runs import RunFolder, differences_to, group_runs, read_run, tables
from vasso_jax.runs.page import as_html
from vasso_jax.runs.page.grids import find_grids


class Page(html.parser.HTMLParser):
    """Elements as (tag, attributes), the rows of the tables, and the figures of the script."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.rows, self.text, self.scripts, self._inside = [], [], "", [], []
        self.feed(text)
        (figures,) = re.findall(r"^const figures = (.*);$", self.scripts[-1], re.MULTILINE)
        self.figures = json.loads(figures)
        self.titles = re.findall(r"<figcaption>(.*?)</figcaption>", text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass  # such as <meta> have no end

    def handle_data(self, data):
        if self._inside[-1:] == ["script"]:
            self.scripts[-1] += data
        elif self._inside[-1:] and self._inside[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        elif "style" not in self._inside:
            self.text += data

    def traces(self, title):
        return self.figures[self.titles.index(title)]["data"]


def page_of(folders, metric="top1", notes=()):
    groups = group_runs(map(read_run, folders))
    found = differences_to(groups[0], groups, lambda run: run.last(metric))
    return as_html(groups, metric, groups[0], found, notes), groups


def rewritten(folder, change):
    """The run, with each record as `change` leaves it."""
    path = folder / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        change(record)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


@pytest.fixture(scope="module")
def two_methods(tmp_path_factory):
    folders = write_two_methods(tmp_path_factory.mktemp("runs"))
    for folder in folders:
        rewritten(folder, lambda r: r.update(loss=r["step"] / 10) if r["split"] == "train" else 0)
    return folders


@pytest.fixture(scope="module")
def text(two_methods):
    return page_of(two_methods, notes=["left out: a & b"])[0]


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_nothing_is_loaded(text, page):
    assert text.startswith("<!DOCTYPE html>")
    loading = [v for _, attrs in page.elements for k, v in attrs.items() if k in ("src", "href")]
    assert loading == ["data:,"]
    (policy,) = [a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a]
    assert policy.startswith("default-src 'none';")
    plotly, ours = page.scripts
    assert "plotly.js v" in plotly[:200]
    assert "http" not in text.replace(plotly, "").replace("http-equiv", "")
    assert "import(" not in ours


def test_it_can_be_read_by_a_screen_reader_and_on_a_phone(page):
    tags = [tag for tag, _ in page.elements]
    assert ("html", {"lang": "en"}) in page.elements
    assert tags.count("title") == tags.count("h1") == 1
    assert all(a["scope"] in ("col", "row") for t, a in page.elements if t == "th")
    (viewport,) = [a["content"] for _, a in page.elements if a.get("name") == "viewport"]
    assert viewport.startswith("width=device-width")
    # Each table scrolls within its own box.
    before = [page.elements[i - 1] for i, tag in enumerate(tags) if tag == "table"]
    assert [attrs["class"] for _, attrs in before] == ["box", "box"]
    named = [a["id"] for _, a in page.elements if "id" in a]
    assert len({*named}) == len(named)
    assert {a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a} < {*named}


def test_the_tables_and_notes_are_those_of_the_command(page, two_methods):
    groups = group_runs(map(read_run, two_methods))
    found = differences_to(groups[0], groups, lambda run: run.last())
    assert page.rows == [
        list(tables.header("top1")),
        *(list(tables.cells(group)) for group in groups),
        list(tables.difference_header("top1", groups[0].name)),
        *(list(tables.difference_cells(*item, "top1")) for item in found.items()),
    ]
    assert "Test top-1 accuracy: 5 runs in 2 groups" in page.text
    assert "left out: a & b" in page.text
    assert "best validation accuracy" not in page.text
    assert "band: +- one standard deviation over 2-3 runs" in page.text


def test_curves_have_the_numbers_of_the_runs(page):
    assert page.titles == ["test top-1 accuracy", "test loss", "train loss"]
    units = [figure["layout"]["yaxis"]["title"]["text"] for figure in page.figures]
    assert units == ["top-1 accuracy, %", "cross-entropy, nats", "cross-entropy, nats"]
    *seeds, band, mean = page.traces("test top-1 accuracy")[:5]
    assert [trace["y"] for trace in seeds] == [[75, 50], [25, 75], [50, 100]]
    assert [trace["meta"]["folder"] for trace in seeds] == ["vasso0", "vasso1", "vasso2"]
    # Values 75, 25, 50, then 50, 75, 100: means 50 and 75, both with the deviation 25.
    assert (mean["x"], mean["y"]) == ([1, 2], [50, 75])
    assert mean["customdata"] == [" +- 25.00, 3 runs"] * 2
    assert (band["x"], band["y"]) == ([1, 2, 2, 1], [75, 100, 50, 25])
    assert [trace["y"] for trace in page.traces("train loss")[:3]] == [[1, 2]] * 3
    assert [trace["y"] for trace in page.traces("test loss")[:3]] == [[0.5, 0.5]] * 3


def test_curves_are_those_of_the_validation_where_there_is_one(tmp_path):
    folder = write_run(tmp_path / "run", 0.5, 0.75)
    rewritten(folder, lambda r: r.update(split="validation") if r["split"] == "test" else 0)
    *_, last = RunFolder(folder).records()
    tests = [
        last | {"split": "test", "top1": 0.25, **more} for more in ({"checkpoint": "best"}, {})
    ]
    with (folder / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(record) + "\n" for record in tests)
    page = Page(page_of([folder])[0])
    assert page.titles == ["validation top-1 accuracy", "validation loss", "train loss"]
    assert [trace["y"] for trace in page.traces("validation top-1 accuracy")] == [[50, 75]]
    assert "best: the test of the checkpoint with the best validation accuracy" in page.text
    assert page.rows[1][3] == "25.00"


def test_every_curve_has_boxes_that_turn_it_off(page):
    boxes = {a["id"] for tag, a in page.elements if tag == "input" and a["type"] == "checkbox"}
    named = [set(trace["meta"]["boxes"]) for figure in page.figures for trace in figure["data"]]
    assert set().union(*named) == boxes
    assert named[0] == {"runs", "group0", "group0run0"}


HOSTILE = "<script>alert(1)</script><b>%{y} &amp; \"'"


def test_names_are_shown_as_they_are(tmp_path):
    folders = [
        write_run(tmp_path / name, 0.5, 0.5, seed=seed, init_from=HOSTILE)
        for seed, name in enumerate(("<script>alert(2)<", "<img src=x onerror=alert(3)>"))
    ]
    other = write_run(tmp_path / "other", 0.5, 0.5)
    unfinished = f"left out: {folders[0]}"
    text, groups = page_of([*folders, other], notes=[unfinished])
    page = Page(text)
    assert HOSTILE in groups[0].name
    assert len(page.scripts) == 2
    assert not {"img", "b"} & {tag for tag, _ in page.elements}
    assert groups[0].name in page.rows[1]
    assert unfinished in page.text
    assert groups[0].name in page.text  # of the legend
    # Plotly reads these texts as HTML, and templates for what they name in %{...}.
    *seeds, _, mean = page.traces("test top-1 accuracy")[:4]
    names = [trace["meta"][key] for trace in seeds for key in ("name", "folder")]
    shown = [name.split("<br>") for name in (mean["meta"]["name"], *names)]
    assert not any(set("<>") & set(line) for lines in shown for line in lines)
    # Lines are broken between words, and within those that are too long.
    ends = [html.unescape("".join(lines)).replace(" ", "") for lines in shown]
    name = groups[0].name.replace(" ", "")
    assert ends == [
        *(name, f"{name},seed0", "<script>alert(2)<"),
        *(f"{name},seed1", "<imgsrc=xonerror=alert(3)>"),
    ]
    assert not any("alert" in trace["hovertemplate"] for trace in (*seeds, mean))
    assert "<" not in re.findall(r"^const figures = .*$", text, re.MULTILINE)[0]


def test_the_metric_has_the_first_panel(tmp_path):
    def change(record):
        if record["split"] == "test" and record["epoch"] == 2:
            record.update(top5=0.75, other=1.0)

    page = Page(page_of([rewritten(write_run(tmp_path / "run", 0.5, 0.5), change)], "top5")[0])
    assert page.titles == [
        *("test top-5 accuracy", "test top-1 accuracy", "test loss"),
        "train loss",
    ]
    (trace,) = page.traces("test top-5 accuracy")
    assert (trace["x"], trace["y"]) == ([2], [75])
    assert "One line per run." in page.text


def write_grid(folder, method, places, **fields):
    return [
        write_run(
            folder / f"{method['name']}_{rho}_{lr}_{seed}",
            *(0.5, value),
            method=method | {"rho": rho},
            base=SETTINGS["base"] | {"lr": lr},
            seed=seed,
            **fields,
        )
        for (rho, lr), values in places.items()
        for seed, value in enumerate(values)
    ]


def test_two_numbers_make_a_heat_map_for_each_combination_of_the_rest(tmp_path):
    places = {(0.2, 0.1): [0.5, 0.75], (0.05, 0.1): [0.25], (0.2, 0.02): [1.0]}
    asam = {"name": "asam", "rho": 0.1}
    folders = write_grid(tmp_path, SAM, places) + write_grid(tmp_path, asam, places)
    page = Page(page_of(folders)[0])
    assert page.titles[-2:] == [
        f"{name}: last test top1, %, by method.rho and base.lr" for name in ("sam", "asam")
    ]
    (sam,) = page.figures[-2]["data"]
    assert (sam["x"], sam["y"]) == (["0.05", "0.2"], ["0.02", "0.1"])
    assert sam["z"] == [[None, 100], [25, 62.5]]
    assert sam["customdata"][1][1].endswith("<br>62.50 +- 17.68, 2 runs")
    assert (sam["zmin"], sam["zmax"]) == (25, 100)


def test_other_groups_make_no_heat_map(tmp_path, page):
    assert not any(title.startswith("sam") for title in page.titles)  # no number differs
    places = {(0.2, 0.1): [0.5], (0.05, 0.1): [0.5], (0.2, 0.02): [0.5]}
    folders = write_grid(tmp_path, SAM, places)
    folders += write_grid(tmp_path, SAM, {(0.2, 0.2): [0.5]}, batch_size=64)
    groups = group_runs(map(read_run, folders))
    assert find_grids(groups) == []
    assert len(find_grids(groups[:3])) == 1
