"""Reading an experiment's file: what wins over what, and errors that say where they are."""

import re
from pathlib import Path

import pytest

from cnnjax.config import RequestError
from cnnjax.study.experiment import Experiment, Lines, read_experiment

HEAD = '''"""Does it matter?

A second paragraph.
"""

from cnnjax.config import Config, ModelConfig, OptimConfig, StudyConfig


def get_config():
    return Config(model=ModelConfig(width=8), optim=OptimConfig(lr=0.2), study=StudyConfig(seeds=3, baseline="plain"))


'''
ARMS = HEAD + (
    "def arms():\n    return {'plain': {}, 'wide': {'model.width': 32}, 'linear': {'model': ModelConfig('logistic')}}\n"
)


def read(tmp_path: Path, text: str, arms: list[str] | None = None, **changes: str) -> Experiment:
    file = tmp_path / "question.py"
    file.write_text(text)
    return read_experiment(str(file), {path.replace("__", "."): value for path, value in changes.items()}, arms)


def error(tmp_path: Path, text: str, arms: list[str] | None = None, **changes: str) -> str:
    """The one line that the file is refused with."""
    with pytest.raises(RequestError) as raised:
        read(tmp_path, text, arms, **changes)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_arms_change_the_config_in_order(tmp_path: Path) -> None:
    experiment = read(tmp_path, ARMS)
    assert experiment.name == "question"
    assert experiment.question == "Does it matter?"
    assert list(experiment.arms) == ["plain", "wide", "linear"]
    assert [config.model.width for config in experiment.arms.values()] == [8, 32, None]
    assert {config.optim.lr for config in experiment.arms.values()} == {0.2}


def test_flags_win_over_the_file_but_not_over_the_arm(tmp_path: Path) -> None:
    experiment = read(tmp_path, ARMS, model__width="16", optim__lr="0.5")
    assert [config.model.width for config in experiment.arms.values()] == [16, 32, None]
    assert {config.optim.lr for config in experiment.arms.values()} == {0.5}


def test_whole_section_of_an_arm_is_out_of_reach_of_flags(tmp_path: Path) -> None:
    linear = read(tmp_path, ARMS, model__width="16", model__name="lenet5").arms["linear"]
    assert (linear.model.name, linear.model.width) == ("logistic", None)


def test_file_without_arms_has_one(tmp_path: Path) -> None:
    experiment = read(tmp_path, HEAD.replace(', baseline="plain"', ""))
    assert list(experiment.arms) == ["only"]
    assert experiment.arms["only"].model.width == 8


def test_chosen_arms_keep_the_order_of_the_file(tmp_path: Path) -> None:
    assert list(read(tmp_path, ARMS, ["linear", "plain"]).arms) == ["plain", "linear"]


def test_baseline_is_the_one_named_or_the_first(tmp_path: Path) -> None:
    assert read(tmp_path, ARMS, study__baseline="wide").baseline == "wide"
    assert read(tmp_path, ARMS.replace(', baseline="plain"', "")).baseline == "plain"
    assert read(tmp_path, ARMS, ["wide", "linear"]).baseline is None


def test_missing_file_gives_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "random_filters.py").write_text("")
    with pytest.raises(RequestError) as raised:
        read_experiment(str(tmp_path / "random_filter.py"), {}, None)
    there = str(tmp_path / "random_filters.py")
    assert str(raised.value).startswith(f"--config: there is no file {tmp_path / 'random_filter.py'}; ")
    assert f"did you mean {there!r}?" in str(raised.value)


def test_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is no file"):
        read_experiment(str(tmp_path / "missing" / "random_filters.py"), {}, None)
    with pytest.raises(RequestError, match="there is no file"):
        read_experiment(str(tmp_path), {}, None)


def test_no_get_config(tmp_path: Path) -> None:
    assert "defines no get_config()" in error(tmp_path, "def get_confg():\n    pass\n")


def test_wrong_return_type(tmp_path: Path) -> None:
    message = error(tmp_path, "def get_config():\n    return {'model': 1}\n")
    assert "returned dict; it must return a Config" in message


def test_exception_names_its_line(tmp_path: Path) -> None:
    message = error(tmp_path, "def get_config():\n    x = 0\n    return 1 / x\n")
    assert "question.py does not run: line 3: ZeroDivisionError: division by zero" in message


def test_exception_in_a_library_names_the_line_of_the_file(tmp_path: Path) -> None:
    message = error(tmp_path, "import json\n\ndef get_config():\n    return json.loads('{')\n")
    assert "does not run: line 4: JSONDecodeError" in message


def test_syntax_error_names_its_line(tmp_path: Path) -> None:
    message = error(tmp_path, "x = 1\ny = 2\ndef get_config(:\n    pass\n")
    assert "SyntaxError" in message
    assert set(re.findall(r"line (\d+)", message)) == {"3"}


def test_key_error_is_not_taken_for_a_missing_function(tmp_path: Path) -> None:
    message = error(tmp_path, "def get_config():\n    return {}['width']\n")
    assert "defines no" not in message
    assert "line 2: KeyError: 'width'" in message


def test_wrong_value_in_the_file_names_its_field(tmp_path: Path) -> None:
    message = error(tmp_path, HEAD.replace("lr=0.2", "lr=-1"))
    assert "question.py" in message
    assert "lr" in message
    assert "greater than 0; given -1" in message


def test_unknown_field_of_an_arm(tmp_path: Path) -> None:
    message = error(tmp_path, HEAD + "def arms():\n    return {'plain': {}, 'wide': {'model.widht': 32}}\n")
    assert "config.model.widht: no such field; did you mean 'width'?" in message


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ("None", "the arm 'wide' must be a dict of fields by name; given None"),
        ("{3: 4}", "the arm 'wide' must be a dict of fields by name; given {3: 4}"),
        ("{'modle': ModelConfig()}", "unknown section of the config 'modle'; did you mean 'model'?"),
        ("{'model.name': ModelConfig()}", "unknown section of the config 'model.name'; did you mean 'model'?"),
        ("{'model': OptimConfig()}", "config.model: should be a ModelConfig; given a OptimConfig"),
    ],
)
def test_wrong_fields_of_an_arm(tmp_path: Path, fields: str, reason: str) -> None:
    assert reason in error(tmp_path, HEAD + f"def arms():\n    return {{'plain': {{}}, 'wide': {fields}}}\n")


def test_unknown_arm_gives_the_nearest(tmp_path: Path) -> None:
    assert error(tmp_path, ARMS, ["wdie"]) == "--arms: unknown arm 'wdie'; did you mean 'wide'?"


def test_no_arm_at_all(tmp_path: Path) -> None:
    assert error(tmp_path, ARMS, []).startswith("--arms: ")
    assert "question.py" in error(tmp_path, HEAD + "def arms():\n    return {}\n")


def test_arms_that_are_no_dict(tmp_path: Path) -> None:
    assert "arms()" in error(tmp_path, HEAD + "def arms():\n    return ['plain', 'wide']\n")


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "", 7])
def test_arm_that_cannot_name_a_folder(tmp_path: Path, name: str) -> None:
    message = error(tmp_path, HEAD + f"def arms():\n    return {{'plain': {{}}, {name!r}: {{}}}}\n")
    assert repr(name) in message


def test_unknown_baseline_gives_the_nearest(tmp_path: Path) -> None:
    message = error(tmp_path, ARMS, study__baseline="plane")
    assert message == "config.study.baseline: unknown arm 'plane'; did you mean 'plain'?"


def test_wrong_flag_names_its_field(tmp_path: Path) -> None:
    assert error(tmp_path, ARMS, optim__lr="fast").startswith("config.optim.lr: ")


TAKING = HEAD.replace(', baseline="plain"', "") + (
    "def arms():\n    return {'taken': {'filters': 'stage.*=arm:learned,frozen;head/.*=init,trained'}, 'other': {},"
    " 'learned': {}}\n"
)


def test_arms_that_others_take_filters_from_come_first_and_along(tmp_path: Path) -> None:
    assert list(read(tmp_path, TAKING).arms) == ["learned", "taken", "other"]
    assert list(read(tmp_path, TAKING, ["taken"]).arms) == ["learned", "taken"]
    assert list(read(tmp_path, TAKING, ["other"]).arms) == ["other"]


def test_arm_to_take_filters_from_that_there_is_not(tmp_path: Path) -> None:
    message = error(tmp_path, TAKING.replace("arm:learned", "arm:lerned"))
    assert message == "config.filters: taken: there is no arm 'lerned'; did you mean 'learned'?"


LINES = "from cnnjax.study.experiment import Lines\n"


def test_screening_and_lines(tmp_path: Path) -> None:
    text = ARMS + LINES + "def screening():\n    return {'big': ('plain', 'wide')}\n"
    text += "def lines():\n    return Lines('model.width', {'all': ('plain', 'wide')})\n"
    experiment = read(tmp_path, text)
    assert experiment.screening == {"big": ("plain", "wide")}
    assert experiment.lines == Lines("model.width", {"all": ("plain", "wide")})
    plain = read(tmp_path, ARMS)
    assert (plain.screening, plain.lines) == ({}, None)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("screening():\n    return {'big': ('plain', 'wdie')}", "must give for 'big' its random and its trained arm"),
        ("screening():\n    return {'big': 'plain'}", "must give for 'big' its random and its trained arm"),
        ("screening():\n    return [('plain', 'wide')]", "screening() must return a dict of pairs of arms"),
        ("screening():\n    return 1 / 0", "ZeroDivisionError"),
        ("lines():\n    return {'all': ('plain',)}", "lines() must return a Lines of tuples of arms"),
        ("lines():\n    return Lines('model.width', {'a': 'plain'})", "lines() must return a Lines of tuples of arms"),
        ("lines():\n    return Lines('model.widht', {})", "config.model.widht: no such field; did you mean 'width'?"),
        ("lines():\n    return Lines('model.width', {'a': ('wdie',)})", "lines(): unknown arm 'wdie'; did you mean"),
        ("lines():\n    return Lines('model.name', {'a': ('plain',)})", "needs a number in model.name of 'plain'"),
        ("lines():\n    return Lines('model.width', {'a': ('linear',)})", "needs a number in model.width of 'linear'"),
    ],
)
def test_wrong_screening_or_lines(tmp_path: Path, function: str, reason: str) -> None:
    assert reason in error(tmp_path, f"{ARMS}{LINES}def {function}\n")


def test_file_is_run_anew_each_time(tmp_path: Path) -> None:
    assert read(tmp_path, ARMS).arms["plain"].optim.lr == 0.2
    assert read(tmp_path, ARMS.replace("lr=0.2", "lr=0.4")).arms["plain"].optim.lr == 0.4
