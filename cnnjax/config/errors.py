"""What is said to a user whose request is wrong."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class RequestError(ValueError):
    """What the user asked for is wrong; the message is one line that names what was given and what would be right."""


def nearest(name: str, candidates: Iterable[str]) -> str:
    """A clause that helps after a wrong name: the nearest candidate, or all of them where none is near."""
    known = sorted(candidates)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"


def choose(table: Mapping[str, T], name: str, what: str) -> T:
    """`table[name]`; or a `RequestError` that says `what` was asked for and which names there are."""
    if name not in table:
        raise RequestError(f"unknown {what} {name!r}; {nearest(name, table)}")
    return table[name]
