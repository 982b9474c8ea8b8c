"""Sweeps: many trials of a study's arms, told apart by the values of some fields, the best of each arm chosen."""
