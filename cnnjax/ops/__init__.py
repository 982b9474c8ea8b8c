"""Pure functions on arrays: convolution arithmetic and pooling."""
