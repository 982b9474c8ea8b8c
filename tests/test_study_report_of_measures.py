"""The report of a study with measured runs: a figure of every kind, each whole, named, and told how to read."""

import base64
import html
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from etils import epath

from cnnjax.analysis.findings import Finding
from cnnjax.analysis.measures import MEASURES
from cnnjax.study.findings import measure_file
from cnnjax.study.image_figures import WORDS
from cnnjax.study.measure_words import axis_label, explanation, magnitude_label, title
from cnnjax.study.report import write_report
from cnnjax.study.workdir import Study, Unit, read_study
from tests.test_analysis_measures import METRICS

ARM = "learned"
STAGES = ("input", "stage1", "head")
MAGNITUDES = (0.0, 0.1, 0.2)
OVER_MAGNITUDES = ("accuracy", "robustness", "sizes", "consistency", "transfer")
OF_WHOLE_NETWORKS = ("confusion", "fooling")
# One of each kind of figure.
SOME = ("accuracy", "consistency", "equivariance", "cka", "gradients", "confusion", "transfer", "saliency")
KERNELS = ("stage1/conv/kernel", "head/kernel")
SVG = "{http://www.w3.org/2000/svg}svg"

# By title: the first words of its sentence, and what stands at its axes.
Expected = dict[str, tuple[str, set[str]]]


def places(measure: str, metric: str) -> list[tuple[str | None, float | None]]:
    """The stages and magnitudes of a measure's metric."""
    if measure in OF_WHOLE_NETWORKS:
        return [(None, None)]
    if measure in OVER_MAGNITUDES:
        one = measure in ("consistency", "transfer")
        return [(None, magnitude) for magnitude in (MAGNITUDES[1:2] if one else MAGNITUDES)]
    stages = KERNELS if metric.startswith("gradient_norm") else STAGES
    return [
        (stage, magnitude) for stage in stages for magnitude in (MAGNITUDES if measure == "equivariance" else (None,))
    ]


def arrays_of(measure: str) -> dict[str, np.ndarray]:
    """What a measure keeps besides its findings."""
    rng = np.random.default_rng(0)
    if measure == "confusion":
        return {"matrix": rng.integers(0, 9, (10, 10))}
    if measure == "cka":
        return {"stages": np.array(STAGES), "self": rng.uniform(size=(3, 3))}
    if measure == "receptive_field":
        return {stage: rng.uniform(size=(8, 8)) for stage in STAGES}
    if measure == "strongest":
        return {"stage1": rng.uniform(size=(2, 4, 3, 3, 1))}
    if measure == "fooling":
        return {"gradient": rng.uniform(size=(2, 8, 8, 1)), "gradient confidence": np.array([0.5, 1.0])}
    if measure in WORDS:
        return {"image": rng.uniform(size=(2, 8, 8, 1)), "row": rng.uniform(size=(2, 8, 8, 1))}
    return {}


def plant(unit: Unit, measures: Sequence[str]) -> None:
    """Writes for a run what these measures would; arrays for those of one arm."""
    rng = np.random.default_rng(unit.seed)
    (unit.folder / "measures").mkdir()
    for measure in measures:
        findings = [
            Finding(metric, value, stage, magnitude, value - 0.1, value + 0.1).__dict__
            for metric in sorted(METRICS.get(measure, ()))
            for stage, magnitude in places(measure, metric)
            for value in [float(rng.uniform(0.2, 0.8))]
        ]
        measure_file(unit, measure).write_text(json.dumps({"settings": {"split": "test"}, "findings": findings}))
        if (arrays := arrays_of(measure)) and unit.arm == ARM:
            with measure_file(unit, measure).with_suffix(".npz").open("wb") as file:
                np.savez(file, **arrays)
    metrics = unit.folder / "metrics.jsonl"
    norms = {f"gradient_norm/{path}": float(rng.uniform()) for path in KERNELS}
    rows = [{"step": 0, "epoch": epoch, "split": "train", **norms} for epoch in (0.0, 1.0)]
    metrics.write_text("".join(f"{json.dumps(row)}\n" for row in rows) + metrics.read_text())


def expected_figures(measures: Sequence[str]) -> Expected:
    """Of a study with these measures."""
    accuracy, kept = "test accuracy (%)", "consistency under random shifts (%)"
    figures: Expected = {
        "Test accuracy of each arm": ("Each point is the mean over seeds", {accuracy}),
        "Learning curves": ("Mean over seeds", {"epoch", "accuracy (%)"}),
        "First filters of each arm": ("The kernels of the first", {"learned", "gaussian"}),
        "Adversarial images for other arms": ("The accuracy of each arm", {"images made for", "shown to"}),
        "Accuracy and consistency": ("A network that gives", {kept, accuracy}),
        "Gradients along training": ("Of the training loss", {"epoch", "norm of the gradient"}),
        f"Confusion matrix: {ARM}": ("How many images of each", {"class predicted", "true class"}),
        f"Similarity of stages: {ARM}": ("How alike what two stages", {"stage", "linear CKA", *STAGES}),
    }
    for measure in measures:
        if measure in WORDS:
            words, sentence = WORDS[measure]
            rows = {"receptive_field": "stages", "strongest": "stage1", "fooling": "gradient"}
            figures[f"{words}: {ARM}"] = (sentence, {rows.get(measure, "row")})
        for metric in METRICS.get(measure, ()):
            if measure not in ("consistency", "transfer", *OF_WHOLE_NETWORKS):
                over = magnitude_label(metric) if measure in (*OVER_MAGNITUDES, "equivariance") else "stage"
                figures[title(metric)] = (explanation(metric), {axis_label(metric), over})
    return figures


def figures_of(page: str) -> Iterator[tuple[str, str, ElementTree.Element]]:
    """Of each figure of a page its title, its sentence, and its picture."""
    block = (
        r'<figure>\s*<h2>(.*?)</h2>\s*<img alt="(.*?)" src="data:image/svg\+xml;base64,(.*?)">\s*'
        r"<figcaption>(.*?)</figcaption>\s*</figure>"
    )
    found = re.findall(block, page, re.DOTALL)
    assert len(found) == page.count("<img") == page.count("<figure>")
    for heading, alternative, encoded, sentence in found:
        assert heading == alternative
        # Letters are drawn as outlines; what they spell stands before them in a comment.
        parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
        root = ElementTree.fromstring(base64.b64decode(encoded, validate=True), parser)
        yield html.unescape(heading), html.unescape(sentence), root


@pytest.mark.parametrize("measures", [SOME, pytest.param(tuple(MEASURES), marks=pytest.mark.slow)], ids=["some", "all"])
def test_every_kind_of_figure_is_whole_and_has_its_words(
    measures: tuple[str, ...], finished_study: Study, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(finished_study.folder, folder)
    study = read_study(epath.Path(folder))
    for unit in study.units:
        plant(unit, measures)
    write_report(study)
    expected, seen = expected_figures(measures), set()
    for heading, sentence, picture in figures_of((folder / "report.html").read_text()):
        words, labels = expected[heading]
        assert words and sentence.startswith(words) and sentence.endswith(".")
        assert picture.tag == SVG
        width, height = (float(picture.attrib[side].removesuffix("pt")) / 72 for side in ("width", "height"))
        assert 2 < width < 13 and 1 < height < 13
        texts = {str(node.text).strip() for node in picture.iter() if node.tag is ElementTree.Comment}
        assert labels <= texts, heading
        assert "nan" not in texts
        seen.add(heading)
    assert seen == set(expected)
