"""Gaussian files and geometry: encodings as in a 3DGS .ply, camera frame as in `sam3d_gs.types`."""
