"""How the weights of the embedded engines are made. See training/README.md."""
