"""The shape and colour of one object from its crop."""
