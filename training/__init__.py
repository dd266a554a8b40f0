"""Training of the embedded engines' networks. See training/README.md."""
