"""The machine: what is here, what is missing, which device and which GPU."""
