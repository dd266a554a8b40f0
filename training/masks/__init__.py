"""How the weights of the embedded masks are made: procedural scenes with labels, and training on them."""
