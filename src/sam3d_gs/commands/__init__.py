"""What `cli.py` is made of: the options of each stage, the larger commands, and what a user sees."""
