"""Starting values of kernels, by name: the lectures' question of how to initialise (003_2444bc7fa30d6853.txt, 783).

Biases start at 0 whatever the name. PyTorch draws them too, uniform between the bounds of `torch` below.
"""

import jax
from flax import linen as nn
from jax.nn.initializers import Initializer

_FORMULAS: dict[str, Initializer] = {
    "glorot": nn.initializers.glorot_uniform(),
    "he": nn.initializers.he_normal(),
    "lecun": nn.initializers.lecun_normal(),
    "orthogonal": nn.initializers.orthogonal(),
    "torch": nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
}

# Flax traces a parameter's initialiser whenever its layer runs, only to check the shape: jit traces each shape once.
INITIALISERS: dict[str, Initializer] = {
    name: jax.jit(formula, static_argnums=(1, 2)) for name, formula in _FORMULAS.items()
}
"""With fan_in = window * channels in, and fan_out = window * features:

- `glorot`: uniform of variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010).
- `he`: normal, cut at two standard deviations, of variance 2 / fan_in (He 2015).
- `lecun`: the same of variance 1 / fan_in (LeCun 1998).
- `orthogonal`: as a matrix [fan_in, features], orthonormal columns, or rows where they are fewer (Saxe 2014).
- `torch`: uniform between -1 / sqrt(fan_in) and 1 / sqrt(fan_in), PyTorch's default for `Conv` and `Linear`.
"""
