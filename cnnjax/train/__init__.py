"""State, optimiser, step, loop, devices and checkpoints of one run."""
