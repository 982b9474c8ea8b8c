"""TFDS wants each builder in a package of its own."""
