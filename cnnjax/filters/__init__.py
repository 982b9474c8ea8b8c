"""Where filters come from, and what of them is frozen."""
