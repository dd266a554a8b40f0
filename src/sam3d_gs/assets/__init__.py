"""A scene as other programs want it: other frames, metres, compressed splats."""
