"""Weights of the full profile: which there are, who may read them, and how they come to this disk whole."""
