"""One photo in, a scene of separate, posed 3D Gaussian objects out."""

__version__ = "0.1.0"
