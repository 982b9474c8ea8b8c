"""What can be asked for, and what is said when it cannot."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.config import (
    Config,
    FilterRule,
    ModelConfig,
    OptimConfig,
    RequestError,
    as_text,
    check_path,
    choose,
    field_paths,
    flatten,
    from_dict,
    is_whole,
    nearest,
    override,
    to_dict,
)

OPEN_SHARE = st.floats(0, 1, exclude_min=True, exclude_max=True)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "model.name": st.sampled_from(["convnet", "lenet5", "logistic"]),
        "model.width": st.integers(1, 512) | st.none(),
        "model.dropout": st.floats(0, 0.9) | st.none(),
        "data.validation": OPEN_SHARE,
        "data.augment": st.lists(st.sampled_from(["shift", "flip"]), max_size=2),
        "filters": st.just((FilterRule("stage.*", "gaussian", "frozen", 2), FilterRule("head/.*"))),
        "fit.patches": st.integers(1, 10**6),
        "head.strengths": st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=3),
        "optim.lr": st.floats(1e-9, 1e3),
        "optim.nesterov": st.booleans(),
        "optim.step_at": st.lists(OPEN_SHARE, min_size=1, max_size=4),
        "train.epochs": st.floats(1e-3, 1e4),
        "study.seeds": st.integers(1, 100),
    },
)


@settings(max_examples=25)
@given(CHANGES)
def test_config_survives_json(changes: dict[str, Any]) -> None:
    config = override(Config(), changes)
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


@settings(max_examples=25)
@given(CHANGES)
def test_override_changes_the_named_fields_alone(changes: dict[str, Any]) -> None:
    before, after = flatten(to_dict(Config())), flatten(to_dict(override(Config(), changes)))
    assert {path: after[path] for path in after if path not in changes} == {
        path: before[path] for path in before if path not in changes
    }
    for path in changes.keys() - {"filters"}:
        assert after[path] == changes[path]


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("optim.lr", "0.25", 0.25),
        ("optim.lr", "1e-3", 0.001),
        ("optim.nesterov", "true", True),
        ("optim.step_at", "0.25, 0.5", (0.25, 0.5)),
        ("head.strengths", "1e-3, 10", (0.001, 10.0)),
        ("head.name", "ridge", "ridge"),
        ("fit.patches", "500", 500),
        ("fit.whitening", "0", 0.0),
        ("data.augment", "flip, shift", ("flip", "shift")),
        ("data.augment", "", ()),
        ("data.workers", "0", 0),
        ("data.workers", "none", None),
        (
            "measures.transformations",
            "translation(border=zeros,direction=(1, 0)), blur(radius=2),rotation",
            ("translation(border=zeros,direction=(1, 0))", "blur(radius=2)", "rotation"),
        ),
        ("study.seeds", "3", 3),
        ("model.width", "none", None),
        ("model.norm", "batch", "batch"),
        ("study.baseline", "none", "none"),
    ],
)
def test_text_of_a_flag_becomes_a_typed_value(path: str, text: str, value: Any) -> None:
    section, field = path.split(".")
    start = override(Config(), {"model.width": 8})
    found = getattr(getattr(override(start, {path: text}), section), field)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("field", ["pool", "norm"])
def test_the_layer_called_none_can_be_asked_for(field: str) -> None:
    config = override(Config(), {f"model.{field}": "none"})
    assert getattr(config.model, field) == "none"


def test_a_section_is_replaced_whole_and_then_its_fields() -> None:
    start = Config(model=ModelConfig(name="convnet", width=8, depth=3))
    config = override(start, {"model": ModelConfig(name="lenet5"), "model.pool": "average"})
    assert config.model == ModelConfig(name="lenet5", pool="average")
    assert config.optim == start.optim


def test_fields_as_text_are_what_their_flags_say() -> None:
    plan = 'stage1/.*="checkpoint:a=b",frozen;stage2/.*=he,frozen,4;head/.*=init,trained'
    said = {"filters": plan, "data.augment": "shift,rotation(border=zeros)", "optim.lr": "0.25", "data.classes": "1,2"}
    values = flatten(to_dict(override(Config(), said)))
    assert {field: as_text(values[field]) for field in said} == said
    assert as_text(values["model.width"]) == "" and as_text(values["data.shuffled"]) == "False"


def test_override_leaves_its_argument_alone() -> None:
    start = Config()
    override(start, {"optim.lr": 0.7, "data.augment": "flip"})
    assert start == Config()


def test_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().optim.lr = 1.0  # type: ignore[misc]


def test_text_of_a_filter_plan() -> None:
    text = "stage1/.*=gaussian,frozen; (?!stage1).*(?=l)=init , trained ;"
    assert override(Config(), {"filters": text}).filters == (
        FilterRule("stage1/.*", "gaussian", "frozen"),
        FilterRule("(?!stage1).*(?=l)", "init", "trained"),
    )


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("stage.*=he,frozen,4", FilterRule("stage.*", "he", "frozen", 4)),
        (" .*/kernel = kmeans , trained , 1 ", FilterRule(".*/kernel", "kmeans", "trained", 1)),
        ("a=arm:learned x4,frozen", FilterRule("a", "arm:learned x4", "frozen")),
        ("a=checkpoint:/tmp/a b/seed{seed},trained", FilterRule("a", "checkpoint:/tmp/a b/seed{seed}")),
        ("a=checkpoint:gs://b/runs/x,y/seed0,frozen", FilterRule("a", "checkpoint:gs://b/runs/x,y/seed0", "frozen")),
        ("a=safetensors:~/w.safetensors,frozen", FilterRule("a", "safetensors:~/w.safetensors", "frozen")),
        (
            'a(?=b).*= "checkpoint:/x=1;y=2,z/seed0" ,frozen,2',
            FilterRule("a(?=b).*", "checkpoint:/x=1;y=2,z/seed0", "frozen", 2),
        ),
        ('a="he",frozen', FilterRule("a", "he", "frozen")),
    ],
)
def test_text_of_a_rule_with_combinations_or_a_path(text: str, rule: FilterRule) -> None:
    assert override(Config(), {"filters": text}).filters == (rule,)
    assert override(Config(), {"filters": f"b=init,trained;{text}"}).filters[1] == rule


@pytest.mark.parametrize(
    "text",
    ["stage1", "=gaussian,frozen", ".*=gaussian", ".*=,frozen", ".*=gaussian,", ".*=he,frozen,2,3"],
)
def test_malformed_filter_rule_is_quoted(text: str) -> None:
    with pytest.raises(RequestError, match="PATTERN=SOURCE,STATE") as caught:
        override(Config(), {"filters": f"head/.*=init,trained;{text}"})
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("path", ["runs/lr=0.1/seed0", "runs/a;b", "runs/a=1;b=2"])
def test_path_that_needs_quotes_says_so(path: str) -> None:
    with pytest.raises(RequestError, match=r"a path with = or ; in it stands between double quotes"):
        override(Config(), {"filters": f"stage.*=checkpoint:{path},frozen;head/.*=init,trained"})


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("optim.lr", 0, "greater than 0"),
        ("optim.lr", "nan", "finite"),
        ("optim.lr", float("inf"), "finite"),
        ("optim.lr", "fast", "valid number"),
        ("optim.momentum", 1.0, "less than 1"),
        ("optim.name", "sgdd", "'sgd', 'adam' or 'adamw'"),
        ("optim.nesterov", "perhaps", "boolean"),
        ("optim.step_at", "", "at least 1"),
        ("optim.step_at", "0.5,2", "less than 1"),
        ("optim.warmup", -0.1, "greater than or equal to 0"),
        ("model.width", "2.5", "integer"),
        ("model.depth", 0, "greater than 0"),
        ("model.dropout", 1, "less than 1"),
        ("data.validation", 0, "greater than 0"),
        ("data.streamed", "sometimes", "'auto', 'always' or 'never'"),
        ("data.memory", 0, "greater than 0"),
        ("train.batch_size", None, "integer"),
        ("study.seeds", 0, "greater than 0"),
        ("fit.patches", 0, "greater than 0"),
        ("fit.iterations", 0, "greater than 0"),
        ("fit.whitening", -1, "greater than or equal to 0"),
        ("head.name", "lasso", "'sgd', 'ridge' or 'logistic'"),
        ("head.strengths", "", "at least 1"),
        ("head.strengths", "1,0", "greater than 0"),
        ("filters", ".*=gaussian,melted", "'trained' or 'frozen'"),
        ("filters", ".*=gaussian,frozen,many", "'trained' or 'frozen'"),
    ],
)
def test_wrong_value_is_refused_in_one_line(path: str, value: Any, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        override(Config(), {path: value})
    message = str(caught.value)
    assert message.startswith(f"config.{path}")
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("optim.lrr", "config.optim.lrr: no such field; did you mean 'lr'?"),
        ("modle.width", "config.modle: no such field; did you mean 'model'?"),
        ("lr", "config.lr: no such field; did you mean 'config.optim.lr'?"),
        ("optim.lr.value", "config.optim.lr is a field and has no parts"),
        ("study.zzz", "config.study.zzz: no such field; there are: baseline, eta, min_epochs, pack, seeds, slots"),
        (
            "study",
            "config.study: a section, not a field; its fields are: seeds, baseline, pack, slots, eta, min_epochs",
        ),
    ],
)
def test_wrong_path_is_answered_with_the_right_one(path: str, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_path(path)
    assert says in str(caught.value)


def test_a_section_does_not_take_anothers_fields() -> None:
    with pytest.raises(RequestError, match=r"config\.model: should be a ModelConfig; given a OptimConfig"):
        override(Config(), {"model": OptimConfig()})


def test_unknown_field_in_a_stored_config() -> None:
    values = to_dict(Config())
    values["optim"]["learning_rate"] = 0.1
    with pytest.raises(RequestError, match=r"^config\.optim\.learning_rate: no such field$"):
        from_dict(values)


def test_every_field_has_a_path() -> None:
    sections = (f for f in dataclasses.fields(Config) if f.name != "filters")
    inside = {f"{s.name}.{f.name}" for s in sections for f in dataclasses.fields(s.default)}  # type: ignore[arg-type]
    assert set(field_paths()) == inside | {"filters"}
    assert [check_path(path) for path in field_paths()] == field_paths()


def test_flatten_keeps_lists_whole() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": [{"e": 2}]}, "f": None}) == {
        "a.b.c": 1,
        "a.d": [{"e": 2}],
        "f": None,
    }


def test_nearest_name_or_all_of_them() -> None:
    assert nearest("resnet5", ["resnet50", "lenet5"]) == "did you mean 'resnet50'?"
    assert nearest("qqq", ["b", "a"]) == "there are: a, b"


def test_choose_returns_the_entry_or_names_the_nearest() -> None:
    table = {"max": 1, "average": 2}
    assert choose(table, "average", "pool") == 2
    with pytest.raises(RequestError, match=r"^unknown pool 'averge'; did you mean 'average'\?$"):
        choose(table, "averge", "pool")


def test_another_network_starts_from_its_own_defaults() -> None:
    start = Config(model=ModelConfig(name="convnet", width=8, depth=3))
    other = override(start, {"model.width": "16", "model.name": "lenet5"})
    assert other.model == ModelConfig(name="lenet5", width=16)
    assert override(start, {"model.name": "convnet"}) == start


def test_fields_of_whole_numbers() -> None:
    whole = {"model.width", "train.batch_size", "study.seeds"}
    assert {
        path
        for path in [*whole, "optim.lr", "model.dropout", "model.name", "filters", "optim.nesterov"]
        if is_whole(path)
    } == whole
