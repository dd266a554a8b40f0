"""The engines: registry.py says which there are, api.py what one is, and each lives in `<stage>_<who>.py`."""
