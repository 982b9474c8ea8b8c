"""The 95% interval of a share by Wilson's formula (1927), written out."""

import numpy as np


def wilson(share: np.ndarray | float, examples: int) -> tuple[np.ndarray, np.ndarray]:
    """The ends, for shares of so many examples."""
    z, p = 1.959963985, np.asarray(share)
    centre = (p + z**2 / (2 * examples)) / (1 + z**2 / examples)
    reach = z / (1 + z**2 / examples) * np.sqrt(p * (1 - p) / examples + z**2 / (4 * examples**2))
    return centre - reach, centre + reach
