"""The report as a real browser renders it; `test_study_report.py` and `test_study_report_of_measures.py` parse it."""

import shutil
import subprocess
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from rich.console import Console

from cnnjax.analysis.measures import MEASURES
from cnnjax.data.dataset import Dataset
from cnnjax.study.measuring import measure_study
from cnnjax.study.report import write_report
from cnnjax.study.workdir import Study
from tests.test_study_measuring import with_measures

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "chrome-headless-shell")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
# What it found of each picture, in the place of the page's title.
LOOK = "<script>onload = () => document.title = [...document.images].map(i => i.naturalWidth + 'x' + i.width)</script>"


def browse(page: Path, *options: str) -> str:
    """The browser's answer about a page."""
    words = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", *options]
    ran = subprocess.run([*words, page.as_uri()], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
@pytest.mark.parametrize(
    "names",
    [("activity", "confusion", "feature_maps"), pytest.param(tuple(MEASURES), marks=pytest.mark.slow)],
    ids=["some", "all"],
)
def test_every_picture_is_rendered(
    names: tuple[str, ...], finished_study: Study, digits: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(finished_study.folder, folder)
    study = with_measures(finished_study, names=names, images=100)
    study = Study(type(study.folder)(folder), study.experiment, study.seeds)
    measure_study(study, {config.data: digits for config in study.experiment.arms.values()}, Console(quiet=True))
    write_report(study)
    html = (folder / "report.html").read_text()
    page = tmp_path / "page.html"
    page.write_text(html + LOOK)
    title = browse(page, "--dump-dom").split("<title>")[1].split("</title>")[0]
    sizes = [tuple(map(int, size.split("x"))) for size in title.split(",")]
    assert len(sizes) == html.count("<img")
    assert all(natural > 100 and shown > 100 for natural, shown in sizes), sizes
    shot = tmp_path / "shot.png"
    browse(page, f"--screenshot={shot}", "--window-size=1200,6000")
    pixels = matplotlib.image.imread(shot)[..., :3]
    # Of every thousand lines, some are neither white nor of one colour: text and pictures all the way down.
    for first in range(0, 6000, 1000):
        assert np.ptp(pixels[first : first + 1000]) > 0.5
