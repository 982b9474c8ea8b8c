"""The plan gives each parameter one rule, or says what is wrong with it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.config import FilterRule, RequestError
from cnnjax.filters.plan import cover, flatten, is_kernel, unflatten

PATHS = ["stage1/conv/kernel", "stage1/conv/bias", "stage2/conv/kernel", "head/kernel", "head/bias"]


def test_each_parameter_has_the_rule_that_matches_its_whole_path() -> None:
    frozen, trained = FilterRule("stage.*", "gaussian", "frozen"), FilterRule("head/.*", "init", "trained")
    assert cover(PATHS, [frozen, trained]) == {
        "stage1/conv/kernel": frozen,
        "stage1/conv/bias": frozen,
        "stage2/conv/kernel": frozen,
        "head/kernel": trained,
        "head/bias": trained,
    }


@settings(max_examples=25)
@given(st.permutations(PATHS), st.integers(1, len(PATHS)))
def test_order_of_rules_does_not_matter(paths: list[str], trained: int) -> None:
    rules = [FilterRule(path, state="trained" if i < trained else "frozen") for i, path in enumerate(paths)]
    assert cover(PATHS, rules) == {rule.pattern: rule for rule in rules} == cover(PATHS, rules[::-1])


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ([FilterRule(".*"), FilterRule("head/bias")], "head/bias is covered twice, by '.*' and 'head/bias'"),
        ([FilterRule(".*"), FilterRule(".*")], "stage1/conv/kernel is covered twice"),
        ([FilterRule("stage.*")], "no rule covers head/kernel, head/bias"),
        ([], "no rule covers stage1/conv/kernel"),
        ([FilterRule(".*"), FilterRule("stage3/.*")], "'stage3/.*' matches none of stage1/conv/kernel, "),
        ([FilterRule("head")], "'head' matches none of"),
        ([FilterRule("(head")], "'(head' is no regular expression: missing )"),
        ([FilterRule(".*", state="frozen")], "everything is frozen"),
    ],
)
def test_wrong_plan_is_refused_in_one_line(plan: list[FilterRule], says: str) -> None:
    with pytest.raises(RequestError) as caught:
        cover(PATHS, plan)
    message = str(caught.value)
    assert message.startswith("config.filters: ")
    assert says in message
    assert "\n" not in message


def test_variables_by_path_and_back() -> None:
    tree = {"stage1": {"conv": {"kernel": 1, "bias": 2}}, "head": {"kernel": 3}}
    flat = {"stage1/conv/kernel": 1, "stage1/conv/bias": 2, "head/kernel": 3}
    assert flatten(tree) == flat
    assert unflatten(flat) == tree


def test_kernels_are_told_by_their_name() -> None:
    paths = ["stage1/conv/kernel", "head/kernel", "stage1/conv/bias", "stage1/norm/scale", "stage1/kernel/bias"]
    assert [path for path in paths if is_kernel(path)] == ["stage1/conv/kernel", "head/kernel"]


def test_frozen_kernels_that_are_combined_leave_their_matrices_to_train() -> None:
    assert len(cover(PATHS, [FilterRule(".*", "he", "frozen", 2)])) == len(PATHS)
    with pytest.raises(RequestError, match="everything is frozen"):
        cover(["head/bias"], [FilterRule(".*", "he", "frozen", 2)])
