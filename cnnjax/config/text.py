"""The forms in which the fields of the config that are no plain numbers or words are written as text."""

import re
from collections.abc import Mapping
from typing import Any

_RULE = re.compile(
    r'(?P<pattern>.+)=\s*(?P<source>"[^"]+"|[^="]+?)\s*,\s*(?P<state>[a-z_]+)\s*(,\s*(?P<combinations>\d+)\s*)?'
)
_QUOTES = '; a path with = or ; in it stands between double quotes, as in stage.*="checkpoint:runs/a=b",frozen'


def parse_rules(value: Any) -> Any:
    """The text form of a filter plan: `PATTERN=SOURCE,STATE[,COMBINATIONS]` rules, with `;` between them. A source with
    `=` or `;` in it stands between double quotes."""
    if not isinstance(value, str):
        return value
    rules = []
    for text in filter(None, (part.strip() for part in re.findall(r'(?:"[^"]*"|[^;])+', value))):
        match = _RULE.fullmatch(text)
        if not match:
            raise ValueError(
                f"a rule reads PATTERN=SOURCE,STATE[,COMBINATIONS] (as in stage.*=gaussian,frozen), not {text!r}"
                + _QUOTES * (":" in text)
            )
        given = {name: part for name, part in match.groupdict().items() if part is not None}
        pattern, source = given["pattern"].strip(), given["source"].strip('"')
        if re.search(r"=\s*\w+:", pattern):
            raise ValueError(f"{pattern!r} is no pattern{_QUOTES}")
        rules.append({**given, "pattern": pattern, "source": source})
    return tuple(rules)


def as_text(value: Any) -> str:
    """A field's plain value in the form in which a flag gives it; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, Mapping):  # a rule of a filter plan
        source = value["source"]
        quoted = f'"{source}"' if set("=;") & set(source) else source
        return f"{value['pattern']}={quoted},{value['state']}" + f",{value['combinations']}" * bool(
            value["combinations"]
        )
    if isinstance(value, list | tuple):
        mark = ";" if any(isinstance(part, Mapping) for part in value) else ","
        return mark.join(map(as_text, value))
    return str(value)


def parse_list(value: Any) -> Any:
    """The text form of a list: commas part its items, but for those in brackets."""
    if not isinstance(value, str):
        return value
    parts = re.findall(r"(?:[^,()]|\((?:[^()]|\([^()]*\))*\))+", value)
    return tuple(part.strip() for part in parts if part.strip())


def parse_pack(value: Any) -> Any:
    """`auto`, or how many runs are trained together: a whole number, at least 1, also as text.

    Raises:
      ValueError: for anything else.
    """
    if value == "auto" or (str(value).isdecimal() and int(value) > 0):
        return value if value == "auto" else int(value)
    raise ValueError("should be auto or a number greater than 0")
