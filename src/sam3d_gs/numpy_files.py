"""Arrays in .npy files and in members of .npz files. Nothing in them is executed."""

from __future__ import annotations

import math
from typing import IO

import numpy as np


def read_array(file: IO[bytes], size: int, most: int | None = None) -> np.ndarray:
    """The array of an open .npy file of `size` bytes.

    Raises ValueError for Python objects and tables, and, before memory is taken, for a header that claims more numbers
    than the file holds or than `most`.
    """
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError("it holds a table, not an array of numbers")
    shape, _, dtype = read_header[version](file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, not numbers")
    count = math.prod(int(side) for side in shape)
    if count * dtype.itemsize > size or (most is not None and count > most):
        raise ValueError(f"its header says {' x '.join(map(str, shape))} numbers, more than the file holds or is sane")
    file.seek(0)
    return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
