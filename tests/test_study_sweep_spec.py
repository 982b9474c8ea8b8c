"""What a sweep varies: the values of a text, and one line for a text that is wrong."""

import re

import pytest

from cnnjax.config import Config, HeadConfig, RequestError
from cnnjax.study.sweep.spec import Choices, Dimension, Range, parse_sweep, text_of

ARMS = {"learned": Config(), "a=b": Config(), "ridge": Config(head=HeadConfig(name="ridge"))}


def values_of(text: str) -> Choices | Range:
    """What `FIELD=SPEC` says of the first arm."""
    return parse_sweep([text], ARMS)["learned"][0].values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("model.width=16,32", Choices(("16", "32"))),
        ("optim.name= sgd , adam", Choices(("sgd", "adam"))),
        ("model.dropout=none,0.5", Choices(("none", "0.5"))),
        ('data.augment=["shift,flip", "flip"]', Choices(("shift,flip", "flip"))),
        ("model.width=[16, 32]", Choices(("16", "32"))),
        ("optim.nesterov=[true]", Choices(("true",))),
        ("filters=.*=init,trained", None),
        ('filters=[".*=init,trained"]', Choices((".*=init,trained",))),
        ("optim.lr=log:1e-3:1", Range("log", False, 0.001, 1.0)),
        ("optim.momentum=linear:0:0.9", Range("linear", False, 0.0, 0.9)),
        ("model.width=int:8:64", Range("linear", True, 8.0, 64.0)),
        ("train.epochs=int:2:5", Range("linear", True, 2.0, 5.0)),
        ("model.width=log:8:64", Range("log", True, 8.0, 64.0)),
        ("optim.lr=log:1e-3:1:4", Choices(("0.001", "0.01", "0.1", "1"))),
        ("optim.momentum=linear:0:0.9:4", Choices(("0", "0.3", "0.6", "0.9"))),
        ("model.width=log:8:64:4", Choices(("8", "16", "32", "64"))),
        ("model.width=int:1:4:2", Choices(("1", "4"))),
    ],
)
def test_values(text: str, values: Choices | Range | None) -> None:
    if values is None:  # the comma parts it into two lists, neither of which is a plan
        with pytest.raises(RequestError):
            values_of(text)
    else:
        assert values_of(text) == values


def test_every_arm_is_swept_unless_one_is_named() -> None:
    lr, width = Dimension("optim.lr", Choices(("1", "2"))), Dimension("model.width", Choices(("8",)))
    own = Dimension("optim.lr", Choices(("3",)))
    assert parse_sweep(["optim.lr=1,2", "model.width=8"], ARMS) == dict.fromkeys(ARMS, (lr, width))
    assert parse_sweep(["a=b/optim.lr=3"], ARMS) == {"a=b": (own,)}
    found = parse_sweep(["optim.lr=1,2", "ridge/optim.lr=3", "ridge/model.width=8"], ARMS)
    assert found == {"learned": (lr,), "a=b": (lr,), "ridge": (own, width)}
    assert parse_sweep([], ARMS) == {}


@pytest.mark.parametrize(
    ("values", "shares", "expected"),
    [
        (Choices(("a", "b", "c", "d")), [0.0, 0.24, 0.25, 0.99], ["a", "a", "b", "d"]),
        (Range("linear", False, 0.0, 0.5), [0.0, 0.5, 0.333333, 1.0], [0.0, 0.25, 0.1667, 0.5]),
        (Range("linear", False, 1000.0, 1001.0), [0.123456], [1000.123]),
        (Range("log", False, 1e-4, 1.0), [0.0, 0.25, 0.5, 1.0], [1e-4, 1e-3, 1e-2, 1.0]),
        (Range("log", False, 1e-4, 1.0), [0.123456], [0.0003118]),
        (Range("linear", True, 1.0, 4.0), [0.0, 0.24, 0.26, 0.74, 0.76, 1.0], [1, 1, 2, 3, 4, 4]),
        (Range("log", True, 1.0, 4.0), [0.0, 0.49, 0.51, 1.0], [1, 1, 2, 4]),
    ],
)
def test_value_at_a_share(values: Choices | Range, shares: list[float], expected: list[object]) -> None:
    found = [values.at(share) for share in shares]
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


def test_rounding_stays_within_the_range() -> None:
    span = Range("log", False, 0.00012344, 0.98765432)
    assert (span.at(0), span.at(1)) == (0.00012344, 0.98765432)
    assert text_of(0.98765432) == "0.98765432" and text_of(7) == "7" and text_of("x") == "x"


FORMS = "VALUES read 16,32 or log:1e-3:1[:N] or linear:0:0.5[:N] or int:8:64[:N]"
WRONG = {
    "optim.lr": f"should read FIELD=VALUES or ARM/FIELD=VALUES; {FORMS}",
    "optim.lr=": f"should read FIELD=VALUES or ARM/FIELD=VALUES; {FORMS}",
    "=1,2": "should read FIELD=VALUES",
    "optim.lrr=1": "config.optim.lrr: no such field; did you mean 'lr'?",
    "optim=1": "config.optim: a section, not a field",
    "lerned/optim.lr=1": "unknown arm 'lerned'; did you mean 'learned'?",
    "study.seeds=1,2": "config.study.seeds does not change how an arm is trained; it is not swept",
    "measures.images=1,2": "config.measures.images does not change",
    "optim.lr=log:1e-3": f"a range has two ends, and perhaps a number of values; {FORMS}",
    "optim.lr=log:1:2:3:4": "a range has two ends",
    "optim.lr=log:a:b": "a range has numbers alone",
    "optim.lr=log:1:2:x": "a range has numbers alone",
    "optim.lr=log:0:1": "0 should be greater than 0 on a logarithmic scale",
    "optim.lr=linear:1:0": "1 should be less than 0",
    "optim.lr=linear:0:inf": "should be less than inf, and both finite",
    "model.width=int:1:2.5": "the ends should be whole numbers",
    "model.width=linear:0.5:2": "the ends should be whole numbers",
    "optim.lr=log:1:2:1": "at least 2 values, all different; given 1",
    "optim.lr=log:1:2:0": "at least 2 values, all different; given 0",
    "model.width=int:1:3:4": "at least 2 values, all different; given 4",
    "optim.lr=1,a": "config.optim.lr: should be a valid number",
    "optim.lr=0.1,-1": "config.optim.lr: should be greater than 0; given '-1'",
    "optim.momentum=linear:0:1": "config.optim.momentum: should be less than 1; given 1.0",
    "optim.lr=lgo:1:2": f"given 'lgo:1:2'; {FORMS}",
    "optim.lr=1,,2": "a list has each value once, and no empty one",
    "optim.lr=1,1": "a list has each value once",
    "optim.lr=[]": "a list has each value once",
    "optim.lr=[1": 'a list in JSON reads ["a,b","c"]',
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_text(text: str) -> None:
    with pytest.raises(RequestError, match=re.escape(WRONG[text])) as raised:
        parse_sweep([text], ARMS)
    assert str(raised.value).startswith(f"--sweep={text}: ") and "\n" not in str(raised.value)


def test_field_that_is_swept_twice() -> None:
    with pytest.raises(RequestError, match=r"--sweep=optim\.lr=2: optim\.lr is swept twice"):
        parse_sweep(["optim.lr=1", "optim.lr=2"], ARMS)
