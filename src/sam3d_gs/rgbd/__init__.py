"""The user's own depth map and camera: their files, units, and how they fit the photo."""
