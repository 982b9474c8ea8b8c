"""Arms behind those that they take filters from."""

import pytest

from cnnjax.config import Config, FilterRule, RequestError
from cnnjax.study.arms import needed_arms, order_arms


def arms(**sources: str) -> dict[str, Config]:
    """By name, what each takes its first stage from."""
    return {
        arm: Config(filters=(FilterRule("stage1/.*", source), FilterRule("head/.*"))) for arm, source in sources.items()
    }


def test_arms_that_a_plan_needs() -> None:
    plan = [
        FilterRule("a", "arm:one"),
        FilterRule("b", "checkpoint:arm:two"),
        FilterRule("c"),
        FilterRule("d", "arm:3"),
    ]
    assert needed_arms(plan) == ["one", "3"]


def test_arms_that_need_nothing_stay_in_order() -> None:
    given = arms(c="init", a="gaussian", b="kmeans")
    assert list(order_arms(given, ["c", "a", "b"])) == ["c", "a", "b"]
    assert list(order_arms(given, ["b"])) == ["b"]
    assert order_arms(given, ["a"])["a"] is given["a"]


def test_each_arm_is_behind_all_that_it_needs() -> None:
    given = arms(third="arm:second", other="init", second="arm:first", also="arm:first", first="init")
    assert list(order_arms(given, list(given))) == ["first", "second", "third", "other", "also"]
    assert list(order_arms(given, ["third"])) == ["first", "second", "third"]


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        ({"a": "arm:a"}, "config.filters: a takes filters from itself (a from a)"),
        (
            {"a": "arm:b", "b": "arm:c", "c": "arm:a"},
            "config.filters: a takes filters from itself (a from b from c from a)",
        ),
        ({"a": "arm:bb", "b": "init"}, "config.filters: a: there is no arm 'bb'; did you mean"),
        ({"a": "arm:", "b": "init"}, "config.filters: a: there is no arm ''"),
    ],
)
def test_cycles_and_unknown_arms(sources: dict[str, str], says: str) -> None:
    with pytest.raises(RequestError) as caught:
        order_arms(arms(**sources), list(sources))
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)
