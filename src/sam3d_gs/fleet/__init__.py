"""Processing many photos with stages that run at the same time."""
