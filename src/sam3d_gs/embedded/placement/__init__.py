"""Where objects stand: camera, gravity, depth."""
