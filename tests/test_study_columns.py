"""The table of what was measured: its columns are asked for by the experiment, and found in the results."""

from pathlib import Path

import pandas as pd
import pytest
from etils import epath

from cnnjax.config import Config, RequestError
from cnnjax.study.experiment import Column, Experiment, read_experiment
from cnnjax.study.results import COLUMNS, measured_rows
from cnnjax.study.statistics import estimate
from cnnjax.study.workdir import Study, read_study, write_study

ASKED = {
    "accuracy at 4 pixels (%)": Column("translation/accuracy", magnitude=4.0),
    "accuracy between two (%)": Column("translation/accuracy", magnitude=4.5),
    "accuracy anywhere (%)": Column("translation/accuracy"),
    "error": Column("equivariance", "stage2", 1.0),
    "whole": Column("consistency"),
}


def study(folder: Path) -> Study:
    experiment = Experiment("columns", "?", {"a": Config(), "b": Config()}, columns=ASKED)
    return Study(epath.Path(folder), experiment, seeds=2)


def test_each_cell_is_the_mean_over_seeds_of_what_was_found_there(tmp_path: Path) -> None:
    nan = float("nan")
    rows = [
        ("a", seed, "test", metric, stage, magnitude, value + seed / 10, nan, nan)
        for seed in (0, 1)
        for metric, stage, magnitude, value in (
            ("translation/accuracy", nan, 4.0, 0.5),
            ("translation/accuracy", nan, 5.0, 0.9),
            ("equivariance", "stage1", 1.0, 7.0),
            ("equivariance", "stage2", 1.0, 0.25),
            ("equivariance", "stage2", 0.0, 0.0),
            ("consistency", nan, nan, 1234.5),
        )
    ]
    rows.append(("b", 0, "test", "consistency", nan, nan, 0.125, 0.0625, 0.25))
    found = measured_rows(study(tmp_path), pd.DataFrame(rows, columns=list(COLUMNS)))
    shares, errors = estimate([50.0, 60.0]), estimate([0.25, 0.35])
    assert found == [
        [
            "a",
            f"55.0 [{shares.low:.1f}, {shares.high:.1f}]",
            "–",
            "–",
            f"0.3 [{errors.low:.3g}, {errors.high:.3g}]",
            "1.23e+03 [1.23e+03, 1.24e+03]",
        ],
        ["b", "–", "–", "–", "–", "0.125 [0.0625, 0.25]"],
    ]


def test_columns_are_kept_in_the_workdir(tmp_path: Path) -> None:
    write_study(study(tmp_path / "study"))
    assert read_study(epath.Path(tmp_path / "study")).experiment.columns == ASKED


def test_what_an_experiment_returns_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(
        '"""Is it?"""\nfrom cnnjax.config import Config\n'
        "def get_config():\n    return Config()\ndef columns():\n    return {'a': 'accuracy'}\n"
    )
    with pytest.raises(RequestError, match=r"columns\(\) must return a dict of Column by heading; given"):
        read_experiment(str(file), {}, None)
