"""The report: one page that needs nothing else and believes no name, and figures that any program reads."""

import base64
import dataclasses
import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import PIL.Image
import pytest
from etils import epath
from rich.console import Console

from cnnjax.config import Config, RequestError
from cnnjax.study import report
from cnnjax.study.experiment import Column, Experiment, Lines
from cnnjax.study.figures import accuracies, accuracy_lines, column_lines, draw, first_filters, learning_curves, save
from cnnjax.study.report import write_report
from cnnjax.study.results import collect
from cnnjax.study.statistics import estimate
from cnnjax.study.summary import print_summary, require_finished
from cnnjax.study.workdir import Study, read_status

VOID = {"meta", "img", "br", "hr", "link", "input"}
HOSTILE = "<script>x&y"

Page = dict[str, list[Any]]


def parse(html: str) -> Page:
    """The page's elements, the sources of what it shows, its text, and the cells of its tables."""
    page: Page = {"tags": [], "sources": [], "text": [], "cells": []}
    open_tags: list[str] = []
    parser = HTMLParser()

    def start(tag: str, attributes: list[tuple[str, str | None]]) -> None:
        page["tags"].append(tag)
        page["sources"] += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]
        if tag in ("td", "th"):
            page["cells"].append("")
        if tag not in VOID:
            open_tags.append(tag)

    def end(tag: str) -> None:
        assert open_tags.pop() == tag

    def data(text: str) -> None:
        if open_tags and open_tags[-1] != "style":
            page["text"].append(text)
        if open_tags and open_tags[-1] in ("td", "th"):
            page["cells"][-1] += text

    parser.handle_starttag, parser.handle_endtag, parser.handle_data = start, end, data  # type: ignore[method-assign]
    parser.feed(html)
    parser.close()
    assert open_tags == []
    return page


@pytest.fixture(scope="module")
def page(finished_study: Study) -> Page:
    return parse((finished_study.folder / "report.html").read_text())


def svg_of(source: str) -> ElementTree.Element:
    kind, encoded = source.split(",", 1)
    assert kind == "data:image/svg+xml;base64"
    return ElementTree.fromstring(base64.b64decode(encoded, validate=True))


def test_page_needs_nothing_else(page: Page) -> None:
    assert {"script", "link", "iframe", "object"}.isdisjoint(page["tags"])
    assert len(page["sources"]) == page["tags"].count("img") == 3
    for source in page["sources"]:
        assert svg_of(source).tag == "{http://www.w3.org/2000/svg}svg"


def test_figures_reach_for_nothing(finished_study: Study) -> None:
    for path in Path(finished_study.folder / "figures").glob("*.svg"):
        for element in ElementTree.parse(path).iter():
            links = [value for name, value in element.attrib.items() if name.endswith(("href", "src"))]
            assert all(link.startswith(("#", "data:")) for link in links)


def test_figures_are_images(finished_study: Study) -> None:
    folder = Path(finished_study.folder / "figures")
    names = {"accuracies", "learning_curves", "filters"}
    assert {path.name for path in folder.iterdir()} == {f"{name}.{form}" for name in names for form in ("svg", "png")}
    for name in names:
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
        with PIL.Image.open(folder / f"{name}.png") as image:
            image.load()
            assert min(image.size) > 100


def test_table_says_what_the_runs_found(finished_study: Study, page: Page) -> None:
    values = [
        [read_status(unit)["metrics"]["test"]["accuracy"] for unit in finished_study.units if unit.arm == arm]
        for arm in ("learned", "gaussian")
    ]
    at = [page["cells"].index(arm) for arm in ("learned", "gaussian")]
    for row, accuracy in zip(at, values, strict=True):
        assert page["cells"][row + 1].startswith(f"{100 * np.mean(accuracy):.1f} [")
        assert page["cells"][row + 5] == "2/2"
    assert page["cells"][at[0] + 2] == "–"
    difference = 100 * (np.mean(values[1]) - np.mean(values[0]))
    assert page["cells"][at[1] + 2].startswith(f"{difference:+.1f} [")
    # 3 x 3 weights and a bias for each of 2 maps; 4 x 4 x 2 inputs to 10 classes.
    assert page["cells"][at[0] + 3] == f"{20 + 330}"
    assert page["cells"][at[1] + 3] == f"{330}"


def test_page_asks_the_question_and_gives_every_field(finished_study: Study, page: Page) -> None:
    assert "Do filters have to be learned?" in page["text"]
    assert "filters" in page["cells"]
    assert page["cells"][page["cells"].index("train.batch_size") :][:3] == ["train.batch_size", "64", "64"]


@pytest.fixture(scope="module")
def hostile(finished_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A copy whose arm, question, name and error are markup."""
    folder = tmp_path_factory.mktemp("hostile") / "study"
    shutil.copytree(finished_study.folder, folder)
    (folder / "runs" / "learned").rename(folder / "runs" / HOSTILE)
    status = {"state": "failed", "error": "<script>of an error</script>", "where": "a.py:1"}
    (folder / "runs" / HOSTILE / "seed1" / "status.json").write_text(json.dumps(status))
    first, second = finished_study.experiment.arms.values()
    arms = {HOSTILE: first, "gaussian": dataclasses.replace(second, filters=first.filters)}
    experiment = Experiment("<script>name", "</p><script>alert('question')</script>", arms)
    study = Study(epath.Path(folder), experiment, 2)
    write_report(study)
    return study


def test_everything_is_escaped(hostile: Study) -> None:
    html = (hostile.folder / "report.html").read_text()
    page = parse(html)
    assert "script" not in page["tags"]
    assert "</p><script>alert('question')</script>" in page["text"]
    assert "<script>name" in page["text"]
    assert page["cells"].count(HOSTILE) == 3  # a row of the summary, one of the speeds, a column of the settings
    assert any("<script>of an error</script>" in text for text in page["text"])


def test_figures_of_hostile_names_are_xml(hostile: Study) -> None:
    page = parse((hostile.folder / "report.html").read_text())
    for source in page["sources"]:
        assert svg_of(source).tag == "{http://www.w3.org/2000/svg}svg"


def test_missing_checkpoints_cost_a_picture_at_most(
    finished_study: Study, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(finished_study.folder, folder)
    shutil.rmtree(folder / "runs" / "learned" / "seed0" / "checkpoints")
    study = dataclasses.replace(finished_study, folder=epath.Path(folder), machine={"devices": "1 x abacus"})
    write_report(study)
    assert "seed0 has no checkpoint that can be read" in caplog.text
    page = parse((folder / "report.html").read_text())
    assert page["tags"].count("img") == 3  # the filters of the arm's other seed serve
    assert page["cells"][page["cells"].index("learned") + 5] == "2/2"
    assert any("devices: 1 x abacus." in text for text in page["text"])


def test_report_counts_what_failed(hostile: Study) -> None:
    page = parse((hostile.folder / "report.html").read_text())
    row = page["cells"].index(HOSTILE)
    assert page["cells"][row + 5] == "1/2"
    assert "[" not in page["cells"][row + 1]  # one seed has no interval


def test_results_are_written_beside_the_page(hostile: Study) -> None:
    results = pd.read_csv(hostile.folder / "results.csv")
    assert set(zip(results.arm, results.seed, strict=True)) == {(HOSTILE, 0), ("gaussian", 0), ("gaussian", 1)}


def test_terminal_shows_the_same_table(hostile: Study) -> None:
    text = io.StringIO()
    print_summary(hostile, collect(hostile), Console(file=text, width=200))
    printed = text.getvalue()
    assert HOSTILE in printed
    assert "1/2" in printed
    assert f"{HOSTILE} seed 1 failed: <script>of an error</script>" in printed
    assert f"report: {hostile.folder / 'report.html'}" in printed


def test_markup_of_rich_in_a_name_is_text(tmp_path: Path) -> None:
    study = Study(epath.Path(tmp_path), Experiment("[red]study", "Why?", {"[bold]arm": Config()}), 1)
    text = io.StringIO()
    print_summary(study, collect(study), Console(file=text, width=200))
    assert "[bold]arm" in text.getvalue()
    assert "[red]study" in text.getvalue()


def test_study_without_a_finished_run_still_has_a_page(tmp_path: Path) -> None:
    study = Study(epath.Path(tmp_path), Experiment("empty", "Why?", {"only": Config()}), 2)
    write_report(study)
    page = parse((tmp_path / "report.html").read_text())
    assert page["cells"][page["cells"].index("only") + 5] == "0/2"
    with pytest.raises(RequestError, match=r"no run in .* has finished"):
        require_finished(study, collect(study))


def test_name_with_dollars_is_no_formula(tmp_path: Path) -> None:
    name = r"$\nonsense{$"
    summary = pd.DataFrame([{"arm": name, "accuracy": estimate([0.5, 0.6])}])
    svg = save(accuracies(summary, 0.1), epath.Path(tmp_path))
    assert ElementTree.fromstring(svg).tag.endswith("svg")


def test_accuracies_are_drawn_at_their_values() -> None:
    arms = {"a": estimate([0.5, 0.7]), "b": estimate([0.25]), "c": estimate([])}
    summary = pd.DataFrame([{"arm": arm, "accuracy": value} for arm, value in arms.items()])
    axes = accuracies(summary, 0.1).figure.axes[0]
    points = [container.lines[0].get_xydata().tolist() for container in axes.containers]
    assert points == [[[pytest.approx(60), 0]], [[pytest.approx(25), 1]]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]


def test_learning_curves_are_means_over_seeds() -> None:
    seeds = [
        pd.DataFrame({"epoch": [1, 2] * 2, "split": ["train"] * 2 + ["validation"] * 2, "accuracy": values})
        for values in ([0.1, 0.2, 0.5, 0.6], [0.3, 0.4, 0.7, 1.0])
    ]
    train, validation = learning_curves({"a": seeds}).figure.axes
    np.testing.assert_allclose(train.lines[0].get_xydata(), [[1, 20], [2, 30]])
    np.testing.assert_allclose(validation.lines[0].get_xydata(), [[1, 60], [2, 80]])


def test_lines_are_drawn_at_their_numbers() -> None:
    arms = {"a": estimate([0.5, 0.7]), "b": estimate([0.25]), "c": estimate([])}
    summary = pd.DataFrame([{"arm": arm, "accuracy": value} for arm, value in arms.items()])
    lines = {r"$\nonsense{$": {"a": 2.0, "b": 8.0}, "second": {"b": 8.0, "c": 4.0}}
    picture = accuracy_lines(summary, "model.width", lines)
    (axes,) = picture.figure.axes
    first, second = (container.lines[0].get_xydata() for container in axes.containers)
    np.testing.assert_allclose(first, [[2, 60], [8, 25]])
    np.testing.assert_allclose(second, [[8, 25]])  # an arm without a finished run is left out
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "width")
    shares = column_lines(arms, "kept (%)", "data.examples", lines)
    assert (shares.name, shares.title) == ("lines_kept", "Kept, over training examples")
    np.testing.assert_allclose(shares.figure.axes[0].containers[0].lines[0].get_xydata(), [[2, 60], [8, 25]])
    assert accuracy_lines(summary, "optim.momentum", {"a": {"a": 0.0}}).figure.axes[0].get_xscale() == "linear"


def test_page_has_the_lines_and_the_screening_that_the_experiment_asks_for(
    finished_study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MOST_ARMS_DRAWN", 1)
    folder = tmp_path / "study"
    shutil.copytree(finished_study.folder, folder)
    experiment = dataclasses.replace(
        finished_study.experiment,
        columns={"numbers trained": Column("parameters_trained")},
        screening={"the one": ("gaussian", "learned")},
        lines=Lines("model.width", {"all": ("learned", "gaussian")}),
    )
    study = dataclasses.replace(finished_study, folder=epath.Path(folder), experiment=experiment)
    write_report(study)
    text = (folder / "report.html").read_text()
    assert "Not drawn, for there are 2 arms and room for 1 in a figure: Learning curves;" in text
    page = parse(text)
    assert "the one" in page["cells"] and "Kendall tau-b" in page["cells"]
    names = {path.stem for path in (folder / "figures").glob("*.svg")}
    assert {"lines", "lines_numbers_trained", "screening", "regret", "accuracies"} <= names
    table = pd.read_csv(folder / "screening.csv").set_index("architecture")
    tests = [read_status(unit)["metrics"]["test"]["accuracy"] for unit in study.units if unit.arm == "learned"]
    assert table.trained_test["the one"] == pytest.approx(np.mean(tests))
    assert table.features["the one"] == 32
    text = io.StringIO()
    print_summary(study, collect(study), Console(file=text, width=200))
    assert "architectures: 1 of 1" in text.getvalue()
    assert not (finished_study.folder / "screening.csv").exists()


def test_head_in_closed_form_has_no_learning_curve() -> None:
    closed = [pd.DataFrame({"split": ["train"], "accuracy": [0.5]})]
    curve = pd.DataFrame({"epoch": [1, 1], "split": ["train", "validation"], "accuracy": [0.3, 0.4]})
    train, _ = learning_curves({"closed": closed, "sgd": [curve]}).figure.axes
    assert [line.get_label() for line in train.lines] == ["sgd"]
    summary = pd.DataFrame([{"arm": "closed", "accuracy": estimate([0.5])}])
    assert [picture.name for picture in draw(summary, {"closed": closed}, {}, 0.1)] == ["accuracies"]


def test_filters_are_drawn_on_one_scale_around_zero() -> None:
    kernel = np.zeros((3, 3, 2, 4), np.float32)
    kernel[0, 1, :, 2] = [-2, -4]
    axes = first_filters({"a": kernel}).figure.axes
    assert len(axes) == 4
    shown = [ax.images[0] for ax in axes]
    assert [image.get_clim() for image in shown] == [(-4, 4)] * 4
    assert shown[2].get_array()[0, 1] == -3
    assert np.count_nonzero([image.get_array() for image in shown]) == 1
