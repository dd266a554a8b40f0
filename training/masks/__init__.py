"""How the weights of the embedded masks are made: procedural scenes with labels, and the training of the net on them."""
