"""What is taken from saved variables, and what is said of variables that do not fit."""

import jax
import numpy as np
import pytest

from cnnjax.config import FilterRule, RequestError
from cnnjax.filters.saved import statistics_source, take_saved

SOURCE = "checkpoint:elsewhere"
SHAPES = {"stage1/conv/kernel": (3, 1, 2), "stage1/norm/scale": (2,), "head/kernel": (8, 3)}
PARAMS = {path: np.zeros(shape, np.float32) for path, shape in SHAPES.items()}
STATS = {f"stage1/norm/{name}": np.zeros(2, np.float32) for name in ("mean", "var")}
SAVED = {
    SOURCE: {
        "params": {path: np.full(shape, 7, np.float32) for path, shape in SHAPES.items()},
        "batch_stats": {path: np.full(2, 9, np.float32) for path in STATS},
    }
}


def rules(**sources: str) -> dict[str, FilterRule]:
    """By the last but one part of the path: its source."""
    return {path: FilterRule(".*", sources.get(path.split("/")[-2], "init")) for path in SHAPES}


def test_what_the_plan_names_is_taken_and_the_rest_stays() -> None:
    params, stats = take_saved(PARAMS, STATS, rules(conv=SOURCE, norm=SOURCE), SAVED)
    assert params["stage1/conv/kernel"] is SAVED[SOURCE]["params"]["stage1/conv/kernel"]
    assert params["stage1/norm/scale"].tolist() == [7, 7]
    assert params["head/kernel"] is PARAMS["head/kernel"]
    assert [array.tolist() for array in stats.values()] == [[9, 9], [9, 9]]


def test_statistics_follow_the_parameters_of_their_module() -> None:
    assert take_saved(PARAMS, STATS, rules(conv=SOURCE), SAVED)[1] == STATS
    moved = take_saved(PARAMS, STATS, rules(norm=SOURCE), SAVED)[1]
    assert [array.tolist() for array in moved.values()] == [[9, 9], [9, 9]]


@pytest.mark.parametrize(
    ("sources", "owner"),
    [
        ({"stage1/norm/scale": "a", "stage1/conv/kernel": "b"}, "a"),
        ({"stage1/conv/kernel": "b", "head/kernel": "c"}, "b"),  # a norm without parameters belongs to what is around
        ({"stage1/conv/kernel": "b", "stage1/bias": "d"}, "init"),
        ({"stage10/conv/kernel": "b"}, "init"),
    ],
)
def test_source_of_a_statistic(sources: dict[str, str], owner: str) -> None:
    given = {path: FilterRule(".*", source) for path, source in sources.items()}
    assert statistics_source("stage1/norm/mean", given) == owner


def test_abstract_shapes_will_do() -> None:
    abstract = {path: jax.ShapeDtypeStruct(shape, "float32") for path, shape in SHAPES.items()}
    params, _ = take_saved(abstract, {}, rules(conv=SOURCE), {SOURCE: {"params": abstract, "batch_stats": {}}})
    assert params == abstract


@pytest.mark.parametrize(
    ("collection", "path", "shape", "says"),
    [
        ("params", "stage1/conv/kernel", None, "checkpoint:elsewhere has no stage1/conv/kernel"),
        (
            "params",
            "stage1/conv/kernel",
            (5, 1, 2),
            "checkpoint:elsewhere has stage1/conv/kernel of shape (5, 1, 2); the network needs (3, 1, 2)",
        ),
        ("batch_stats", "stage1/norm/var", None, "checkpoint:elsewhere has no stage1/norm/var"),
        (
            "batch_stats",
            "stage1/norm/mean",
            (3,),
            "checkpoint:elsewhere has stage1/norm/mean of shape (3,); the network needs (2,)",
        ),
    ],
)
def test_missing_and_misshapen_variables_are_named(
    collection: str, path: str, shape: tuple[int, ...] | None, says: str
) -> None:
    wrong = {name: dict(flat) for name, flat in SAVED[SOURCE].items()}
    del wrong[collection][path]
    if shape:
        wrong[collection][path] = np.zeros(shape, np.float32)
    with pytest.raises(RequestError) as caught:
        take_saved(PARAMS, STATS, rules(conv=SOURCE, norm=SOURCE), {SOURCE: wrong})
    assert str(caught.value) == says
