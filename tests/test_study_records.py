"""A run's metrics on disk: what stays when it is opened again, and the same numbers for TensorBoard."""

import json
from pathlib import Path

import pytest
from etils import epath
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context

from cnnjax.study.records import MetricsFile, Row, read_rows, write_hyperparameters


def row(step: int, split: str) -> Row:
    return {"step": step, "epoch": step / 10, "split": split, "loss": 3.7 / step, "accuracy": step / 64}


ROWS = [row(step, split) for step in (10, 20, 30) for split in ("train", "validation")]


def write(folder: Path, rows: list[Row], step: int = 0) -> None:
    metrics = MetricsFile(epath.Path(folder), step)
    for values in rows:
        metrics.append(values)
    metrics.close()


def age(folder: Path) -> None:
    """Gives the events the name that a file of an earlier second has."""
    for path in folder.glob("events.out.tfevents.*"):
        path.rename(folder / "events.out.tfevents.1.earlier")


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows: steps and values by tag."""
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags}


def expected(rows: list[Row]) -> dict[str, list[tuple[int, float]]]:
    """Float32 is what events hold."""
    return {
        f"{metric}/{split}": [(r["step"], pytest.approx(r[metric], rel=1e-6)) for r in rows if r["split"] == split]
        for metric in ("loss", "accuracy")
        for split in ("train", "validation")
    }


def test_rows_are_read_back(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    assert read_rows(epath.Path(tmp_path)) == ROWS


def test_row_is_on_disk_at_once(tmp_path: Path) -> None:
    metrics = MetricsFile(epath.Path(tmp_path), 0)
    metrics.append(ROWS[0])
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == ROWS[0]
    metrics.close()


def test_folder_without_metrics_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(epath.Path(tmp_path)) == []


def test_events_are_the_rows(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    assert events(tmp_path) == expected(ROWS)


def test_later_rows_are_dropped_on_reopening(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    age(tmp_path)
    write(tmp_path, [], step=20)
    assert read_rows(epath.Path(tmp_path)) == ROWS[:4]
    assert events(tmp_path) == expected(ROWS[:4])


def test_going_on_leaves_no_duplicates(tmp_path: Path) -> None:
    write(tmp_path, ROWS[:4])
    age(tmp_path)
    write(tmp_path, ROWS[2:], step=10)
    assert read_rows(epath.Path(tmp_path)) == ROWS
    assert events(tmp_path) == expected(ROWS)


def test_beginning_anew_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    age(tmp_path)
    write(tmp_path, ROWS[:2])
    assert read_rows(epath.Path(tmp_path)) == ROWS[:2]
    assert events(tmp_path) == expected(ROWS[:2])


@pytest.mark.parametrize("length", [1, 20, -2])
def test_half_written_line_is_dropped(tmp_path: Path, length: int) -> None:
    write(tmp_path, ROWS[:2])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(ROWS[2])[:length])
    assert read_rows(epath.Path(tmp_path)) == ROWS[:2]
    write(tmp_path, ROWS[2:], step=10)
    assert read_rows(epath.Path(tmp_path)) == ROWS


def test_loss_that_is_not_finite_is_kept(tmp_path: Path) -> None:
    write(tmp_path, [{**ROWS[0], "loss": float("inf")}])
    assert read_rows(epath.Path(tmp_path))[0]["loss"] == float("inf")


def hparams_tab(folder: Path) -> dict[str, tuple[dict[str, object], dict[str, float]]]:
    """What TensorBoard's HParams tab shows: by run, the hyper-parameters and the last value of each metric."""
    runs = EventMultiplexer()
    runs.AddRunsFromDirectory(str(folder))
    runs.Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(runs, str(folder)), multiplexer=runs))
    request = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=9, allowed_statuses=range(4))
    response = list_session_groups.Handler(RequestContext(), context, "", request).run()
    return {
        group.sessions[0].name: (
            {name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()},
            {metric.name.tag: metric.value for metric in group.metric_values},
        )
        for group in response.session_groups
    }


def test_trials_fill_the_hparams_tab(tmp_path: Path) -> None:
    for number, rows in enumerate((ROWS[:2], ROWS)):
        values = {"optim.lr": 0.1 + number, "model.width": "16", "model.act": "relu", "seed": number}
        write_hyperparameters(epath.Path(tmp_path / f"run{number}"), values)
        write(tmp_path / f"run{number}", rows)
    age(tmp_path / "run1")
    write(tmp_path / "run1", ROWS[4:], step=20)  # it goes on
    (tmp_path / "plain").mkdir()
    write(tmp_path / "plain", ROWS)
    shown = hparams_tab(tmp_path)
    assert list(shown) == ["run0", "run1"]
    values, metrics = shown["run1"]
    assert values == {"optim.lr": 1.1, "model.width": 16.0, "model.act": "relu", "seed": 1.0}
    assert metrics == {
        f"{metric}/{row['split']}": pytest.approx(row[metric], rel=1e-6)
        for metric in ("loss", "accuracy")
        for row in ROWS[4:]
    }
    assert shown["run0"][1]["accuracy/validation"] == pytest.approx(ROWS[1]["accuracy"])
