"""Starting values of kernels, by name. Biases start at 0."""

from flax import linen as nn
from jax.nn.initializers import Initializer

INITIALISERS: dict[str, Initializer] = {
    "glorot": nn.initializers.glorot_uniform(),
    "he": nn.initializers.he_normal(),
    "lecun": nn.initializers.lecun_normal(),
    "orthogonal": nn.initializers.orthogonal(),
}
