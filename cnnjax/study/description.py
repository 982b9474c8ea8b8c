"""The tables of an experiment's networks, on the console."""

import dataclasses

from rich.console import Console
from rich.table import Table

from cnnjax.config import Config, DataConfig, RequestError
from cnnjax.data.dataset import DataSummary
from cnnjax.models.description import StageRow, describe_stages
from cnnjax.study.request import OK, Request
from cnnjax.train.interruption import Interruption
from cnnjax.train.setup import build_model, checked_blueprint


def describe_arms(request: Request, console: Console, interruption: Interruption) -> int:
    """One table for each different network among the arms."""
    with interruption.nothing_to_save():
        summaries: dict[DataConfig, DataSummary] = {}
        described: list[Config] = []
        for arm, config in request.experiment().arms.items():
            if config.data not in summaries:
                summaries[config.data] = _summary_of(request, config.data)
            summary = summaries[config.data]
            if config.filters != Config().filters:
                checked_blueprint(config, summary)
            if any(other.model == config.model and other.data == config.data for other in described):
                continue
            described.append(config)
            table = Table(title=f"{arm}: {config.model.name} on {summary.name} {summary.shape}")
            for field in dataclasses.fields(StageRow):
                table.add_column(field.name.replace("_", " "), justify="left" if field.name == "stage" else "right")
            for row in describe_stages(build_model(config.model, summary), summary.shape):
                table.add_row(*map(_cell, dataclasses.astuple(row)))
            console.print(table)
    return OK


def _summary_of(request: Request, data: DataConfig) -> DataSummary:
    """Of the data set; or of images of the shape that is asked for, of which nothing else is known."""
    if request.shape is None:
        # Whoever describes a network for images of a given shape has no data, and need not wait for TFDS.
        from cnnjax.data.streamed import open_dataset

        return open_dataset(data).summary
    try:
        shape = tuple(map(int, request.shape))
        if len(shape) < 2 or min(shape) < 1:
            raise ValueError
    except ValueError:
        given = ",".join(request.shape)
        raise RequestError(f"--shape: give the sizes and the channels of an image, as 224,224,3; not {given}") from None
    return DataSummary("images", shape, request.classes, (0.0,) * shape[-1], (1.0,) * shape[-1], 0.0, 255.0, {})


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return " x ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
