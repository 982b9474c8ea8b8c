"""What a sweep varies: a field of the config and the values that it takes, from a flag's text."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Literal

from cnnjax.config import Config, RequestError, check_path, is_whole, nearest, override

Value = str | int | float

FORMS = "16,32 or log:1e-3:1[:N] or linear:0:0.5[:N] or int:8:64[:N]"
_SCALES: dict[str, Literal["linear", "log"]] = {"linear": "linear", "int": "linear", "log": "log"}
# Sections that decide nothing about how an arm is trained.
_NOT_SWEPT = ("study", "measures")
# Values are rounded, so that a trial's name says exactly what it was trained with.
_DIGITS = 4


@dataclasses.dataclass(frozen=True)
class Choices:
    """Values one by one, as a flag's text."""

    values: tuple[str, ...]

    def at(self, share: float) -> Value:
        """The value at a share of them in [0, 1)."""
        return self.values[int(share * len(self.values))]


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers between two, both included.

    Attributes:
      scale: whether equal differences or equal ratios weigh the same.
      whole: whether they are whole numbers.
      low, high: the two.
    """

    scale: Literal["linear", "log"]
    whole: bool
    low: float
    high: float

    def at(self, share: float) -> Value:
        """The number at a share of the range in [0, 1]; each whole number has as much of it as the others."""
        reach = 0.5 if self.whole else 0.0
        return self.rounded(self._between(self.low - reach, self.high + reach, share))

    def spaced(self, count: int) -> list[Value]:
        """So many of them, evenly spaced on the scale, the two ends among them."""
        return [self.rounded(self._between(self.low, self.high, place / (count - 1))) for place in range(count)]

    def rounded(self, number: float) -> Value:
        """The nearest whole number, or the number in four digits; on a linear scale, the digits of the whole span."""
        if self.whole:
            number = round(number)
        elif self.scale == "log":
            number = float(f"{number:.{_DIGITS}g}")
        else:
            number = round(number, _DIGITS - 1 - math.floor(math.log10(self.high - self.low)))
        number = min(max(number, self.low), self.high)
        return int(number) if self.whole else number

    def _between(self, low: float, high: float, share: float) -> float:
        if self.scale == "log":
            return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        return low + share * (high - low)


@dataclasses.dataclass(frozen=True)
class Dimension:
    """A field that is swept.

    Attributes:
      field: its path in the config.
      values: that it takes.
    """

    field: str
    values: Choices | Range

    @property
    def extremes(self) -> tuple[Value, ...]:
        """All choices, or the two ends."""
        return self.values.values if isinstance(self.values, Choices) else (self.values.at(0), self.values.at(1))


def text_of(value: Value) -> str:
    """A value as a flag's text."""
    return value if isinstance(value, str) else f"{value:.12g}"


def parse_sweep(texts: Sequence[str], arms: Mapping[str, Config]) -> dict[str, tuple[Dimension, ...]]:
    """What is varied of each arm.

    Args:
      texts: each `FIELD=SPEC`, for all arms, or `ARM/FIELD=SPEC`, for one arm, where it takes the place of the former.
        A SPEC is a list (`16,32`; in JSON where a value has a comma: `["a,b","c"]`), or a range `log:LOW:HIGH`,
        `linear:LOW:HIGH`, `int:LOW:HIGH`, with `:N` behind it N values of it, evenly spaced.
      arms: the config of each arm.

    Returns:
      The dimensions by arm, in the order of the texts; arms that are not swept are left out.

    Raises:
      RequestError: for a text that is none of these, an unknown arm or field, or a value that the field cannot have.
    """
    every: dict[str, Dimension] = {}
    own: dict[str, dict[str, Dimension]] = {}
    for text in texts:
        arm, field, spec = _parts(text, arms)
        swept = every if arm is None else own.setdefault(arm, {})
        if field in swept:
            raise RequestError(f"--sweep={text}: {field} is swept twice; give all its values in one")
        dimension = Dimension(field, _parse_values(text, field, spec))
        for config in arms.values() if arm is None else (arms[arm],):
            _check_values(text, dimension, config)
        swept[field] = dimension
    dimensions = {arm: tuple((every | own.get(arm, {})).values()) for arm in arms}
    return {arm: found for arm, found in dimensions.items() if found}


def _parts(text: str, arms: Mapping[str, Config]) -> tuple[str | None, str, str]:
    """The arm (None for all), the field and the values."""
    arm = next((arm for arm in arms if text.startswith(f"{arm}/")), None)
    field, equals, spec = text.removeprefix(f"{arm}/").partition("=")
    if not equals or not spec or not field:
        raise RequestError(f"--sweep={text}: should read FIELD=VALUES or ARM/FIELD=VALUES; VALUES read {FORMS}")
    if "/" in field:
        wrong = field.partition("/")[0]
        raise RequestError(f"--sweep={text}: unknown arm {wrong!r}; {nearest(wrong, arms)}")
    try:
        check_path(field)
    except RequestError as error:
        raise RequestError(f"--sweep={text}: {error}") from None
    if field.split(".")[0] in _NOT_SWEPT:
        raise RequestError(f"--sweep={text}: config.{field} does not change how an arm is trained; it is not swept")
    return arm, field, spec


def _parse_values(text: str, field: str, spec: str) -> Choices | Range:
    kind, _, numbers = spec.partition(":")
    if kind in _SCALES:
        try:
            return _parse_range(kind, numbers.split(":"), is_whole(field))
        except ValueError as error:
            raise RequestError(f"--sweep={text}: {error}; VALUES read {FORMS}") from None
    try:
        values = json.loads(spec) if spec.startswith("[") else [value.strip() for value in spec.split(",")]
    except ValueError as error:
        raise RequestError(f'--sweep={text}: {error}; a list in JSON reads ["a,b","c"]') from None
    choices = tuple(value if isinstance(value, str) else json.dumps(value) for value in values)
    if not choices or "" in choices or len(set(choices)) < len(choices):
        raise RequestError(f"--sweep={text}: a list has each value once, and no empty one; VALUES read {FORMS}")
    return Choices(choices)


def _parse_range(kind: str, numbers: Sequence[str], whole: bool) -> Choices | Range:
    if len(numbers) not in (2, 3):
        raise ValueError("a range has two ends, and perhaps a number of values")
    try:
        low, high = map(float, numbers[:2])
        count = int(numbers[2]) if len(numbers) == 3 else None
    except ValueError:
        raise ValueError("a range has numbers alone") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{numbers[0]} should be less than {numbers[1]}, and both finite")
    if kind == "log" and low <= 0:
        raise ValueError(f"{numbers[0]} should be greater than 0 on a logarithmic scale")
    whole = whole or kind == "int"
    if whole and not (low.is_integer() and high.is_integer()):
        raise ValueError("the ends should be whole numbers")
    span = Range(_SCALES[kind], whole, low, high)
    if count is None:
        return span
    chosen = dict.fromkeys(map(text_of, span.spaced(count))) if count >= 2 else {}
    if not chosen or len(chosen) < count:
        raise ValueError(f"there should be at least 2 values, all different; given {count}")
    return Choices(tuple(chosen))


def _check_values(text: str, dimension: Dimension, config: Config) -> None:
    for value in dimension.extremes:
        try:
            override(config, {dimension.field: value})
        except RequestError as error:
            raise RequestError(f"--sweep={text}: {error}; VALUES read {FORMS}") from None
