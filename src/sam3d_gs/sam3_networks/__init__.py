"""The two SAM 3 networks, of transformers and of Meta, and what runs them. Their masks are chosen in masks/."""
