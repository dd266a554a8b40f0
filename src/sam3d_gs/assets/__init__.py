"""A scene as other programs want it."""
