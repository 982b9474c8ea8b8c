"""The command line: any field of the config, and one clear line for what is wrong."""

import re

import pytest
from absl import flags

from cnnjax.config import RequestError
from cnnjax.study.flags import define, parse


@pytest.fixture
def known() -> flags.FlagValues:
    """Flags of the test's own, like those of the launcher."""
    values = flags.FlagValues()
    flags.DEFINE_string("config", "", "", flag_values=values)
    flags.DEFINE_string("workdir", "", "", flag_values=values)
    flags.DEFINE_list("arms", None, "", flag_values=values)
    flags.DEFINE_integer("seeds", None, "", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("top", None, "", lower_bound=1, flag_values=values)
    flags.DEFINE_enum("mode", "run", ["run", "report"], "", flag_values=values)
    return values


def test_flags_and_fields_are_told_apart(known: flags.FlagValues) -> None:
    changes = parse(
        known, ["launch.py", "--config=a.py", "--config.optim.lr=0.1", "--seeds", "3", "--arms=b,c", "--mode=report"]
    )
    assert changes == {"optim.lr": "0.1"}
    assert (known.config, known.seeds, known.arms, known.mode) == ("a.py", 3, ["b", "c"], "report")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config.optim.name=adam", "--config.filters=stage.*=gaussian,frozen;head.*=init,trained"],
        ["--config.optim.name", "adam", "--config.filters", "stage.*=gaussian,frozen;head.*=init,trained"],
        ["-config.optim.name=adam", "-config.filters", "stage.*=gaussian,frozen;head.*=init,trained"],
    ],
)
def test_fields_are_given_in_every_form(known: flags.FlagValues, arguments: list[str]) -> None:
    assert parse(known, ["launch.py", *arguments, "--workdir=w"]) == {
        "optim.name": "adam",
        "filters": "stage.*=gaussian,frozen;head.*=init,trained",
    }
    assert known.workdir == "w"


def test_flags_of_the_launcher() -> None:
    known = define()
    parse(known, ["launch.py", "--top=3", "--workdir=w"])
    assert (known.top, known.workdir, known.seeds, known.mode) == (3, "w", None, "run")
    assert (known.sweep, known.search, known.trials, known.storage) == ([], None, None, None)
    with pytest.raises(RequestError, match="--top=0"):
        parse(define(), ["launch.py", "--top=0"])


def test_sweeps_are_all_kept() -> None:
    known = define()
    parse(known, ["launch.py", "--sweep=optim.lr=log:1e-3:1", "--sweep", "a/model.width=16,32", "--trials=4"])
    assert (known.sweep, known.trials) == (["optim.lr=log:1e-3:1", "a/model.width=16,32"], 4)
    with pytest.raises(
        RequestError, match=r"--search=anneal: value should be one of <grid\|random\|sobol\|halving\|tpe>"
    ):
        parse(define(), ["launch.py", "--search=anneal"])


def test_last_of_a_field_wins(known: flags.FlagValues) -> None:
    changes = parse(known, ["launch.py", "--config.optim.lr=0.1", "--config.optim.lr=0.2"])
    assert changes == {"optim.lr": "0.2"}


def test_value_may_be_empty_or_begin_with_a_minus(known: flags.FlagValues) -> None:
    changes = parse(known, ["launch.py", "--config.data.dir=", "--config.optim.lr", "-1"])
    assert changes == {"data.dir": "", "optim.lr": "-1"}


def test_no_arguments_change_nothing(known: flags.FlagValues) -> None:
    assert parse(known, ["launch.py"]) == {}
    assert known.mode == "run"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--sedes=3", "--sedes: no such flag; did you mean 'seeds'?"),
        ("--cofnig=a.py", "--cofnig: no such flag; did you mean 'config'?"),
        ("--cofnig.optim.lr=1", "--cofnig.optim.lr: no such flag"),
        ("--config.optim.lrr=1", "config.optim.lrr: no such field; did you mean 'lr'?"),
        ("--config.lr=1", "config.lr: no such field; did you mean 'config.optim.lr'?"),
        ("--config.optim=sgd", "config.optim: a section, not a field"),
        ("--config.optim.lr", "--config.optim.lr: needs a value, as in --config.optim.lr=VALUE"),
        ("--seeds=0", "--seeds=0"),
        ("--seeds=many", "--seeds=many"),
        ("--mode=rpeort", "--mode=rpeort: value should be one of <run|report>"),
        ("learned", "'learned': not a flag; flags read --NAME=VALUE"),
    ],
)
def test_wrong_argument(known: flags.FlagValues, argument: str, message: str) -> None:
    with pytest.raises(RequestError, match=re.escape(message)) as raised:
        parse(known, ["launch.py", argument])
    assert "\n" not in str(raised.value)


def test_field_without_a_value_takes_no_flag_for_one(known: flags.FlagValues) -> None:
    with pytest.raises(RequestError, match=r"--config\.optim\.lr: needs a value"):
        parse(known, ["launch.py", "--config.optim.lr", "--seeds=3"])
