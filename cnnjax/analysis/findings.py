"""What a measure returns: numbers with their place and their interval."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Finding:
    """One number of a measure.

    Attributes:
      metric: its name, such as `rotation/accuracy`.
      value: the number.
      stage: the stage (or, of a parameter, its path) that it is of; None for the whole network.
      magnitude: of the transformation or attack, in its unit; None where there is none.
      low, high: the ends of its 95% interval over images; None where it has none.
    """

    metric: str
    value: float
    stage: str | None = None
    magnitude: float | None = None
    low: float | None = None
    high: float | None = None
