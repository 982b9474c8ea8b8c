"""Arms that take filters from other arms, and the order that this asks for."""

from collections.abc import Mapping, Sequence

from cnnjax.config import Config, FilterRule, RequestError, nearest

_ARM = "arm:"


def needed_arms(plan: Sequence[FilterRule]) -> list[str]:
    """The other arms of the study that a plan takes filters from."""
    return [rule.source.removeprefix(_ARM) for rule in plan if rule.source.startswith(_ARM)]


def order_arms(arms: Mapping[str, Config], wanted: Sequence[str]) -> dict[str, Config]:
    """The arms that are wanted and those that they take filters from, each behind all that it needs.

    Raises:
      RequestError: for an arm that takes filters from itself, round about or not, or from one that there is not.
    """
    ordered: dict[str, Config] = {}

    def add(arm: str, waiting: tuple[str, ...]) -> None:
        if arm in waiting:
            raise RequestError(f"config.filters: {arm} takes filters from itself ({' from '.join((*waiting, arm))})")
        for needed in needed_arms(arms[arm].filters):
            if needed not in arms:
                raise RequestError(f"config.filters: {arm}: there is no arm {needed!r}; {nearest(needed, arms)}")
            add(needed, (*waiting, arm))
        ordered.setdefault(arm, arms[arm])

    for arm in wanted:
        add(arm, ())
    return ordered
