"""Weights of the full profile: the repositories, access to them, downloads and verification."""
