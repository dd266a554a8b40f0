"""Checkpoint folders in the official layout: reading them, and making ones with random weights.

Read `checkpoint.py` first. `network_source.py` is what the runtime sees of either kind.
"""
