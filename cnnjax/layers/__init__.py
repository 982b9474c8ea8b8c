"""Flax linen modules. Each takes `train` by keyword, and serves 1, 2 and 3 spatial dimensions."""
