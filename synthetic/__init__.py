"""Makers of synthetic data for tests and benchmarks. Run from the repository root; not part of the wheel."""
