"""Many photos, and stages that work at the same time."""
