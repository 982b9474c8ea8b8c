"""What to ask of a finished run: invariance, equivariance, similarity, gradients, pictures, attacks."""
