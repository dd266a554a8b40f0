"""Made inria_degree0.ply: three Gaussians in the columns of the INRIA code, written by plyfile (1.1.x), not by us.

Needs `pip install plyfile`; the tests only read the result. Value of column c in row r: ``r + (c + 1) / 32``, exact in
float32; normals are 0 and the quaternions 1, 0, 0, 0 / 0, 1, 0, 0 / 0, 0, 1, 0.
"""

from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement

NAMES = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"]
NAMES += ["scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]

vertices = np.zeros(3, dtype=[(name, "f4") for name in NAMES])
for row in range(3):
    for column, name in enumerate(NAMES):
        if not name.startswith(("n", "rot")):
            vertices[name][row] = row + (column + 1) / 32
    vertices[f"rot_{row}"][row] = 1
target = Path(__file__).with_name("inria_degree0.ply")
PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<").write(target)
