"""Reads checkpoint folders in the official layout. Start with `checkpoint.py`."""
