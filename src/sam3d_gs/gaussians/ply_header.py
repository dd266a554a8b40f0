"""The header of a .ply file: what lies where, checked against the size of the file before anything is read.

The format is Greg Turk's "The PLY Polygon File Format" (1994), with both spellings of the type names.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sam3d_gs.errors import BadInputError

MAX_HEADER_BYTES = 1 << 16  # an INRIA header has 1.5 kB at spherical-harmonics degree 3

_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}


@dataclass
class Element:
    """One `element` of the header. `dtype` is None when it has list properties, so that its size is unknown."""

    name: str
    count: int
    properties: list[tuple[str, str]]  # name, NumPy type code
    has_lists: bool = False

    def dtype(self, byte_order: str) -> np.dtype:
        return np.dtype([(name, (byte_order or "<") + code) for name, code in self.properties])


@dataclass(frozen=True)
class Vertices:
    """Where the vertices of a .ply file are; the file is known to be long enough for them."""

    count: int
    dtype: np.dtype  # one record; field names are the property names
    is_ascii: bool
    offset: int  # of the first byte, in a binary file
    lines_before: int  # lines after the header that belong to other elements, in an ASCII file


def find_vertices(stream: BinaryIO, path: Path) -> Vertices:
    """Read the header from an open file and leave the position after it. Raises BadInputError naming the file."""
    file_bytes = os.fstat(stream.fileno()).st_size
    lines = _header_lines(stream, path)
    header_bytes = stream.tell()
    try:
        byte_order, elements = _parse(lines)
    except ValueError as error:
        raise _broken(path, str(error)) from error

    before: list[Element] = []
    for element in elements:
        if element.name == "vertex":
            break
        before.append(element)
    else:
        raise _broken(path, "its header has no element vertex")
    is_ascii = not byte_order
    if element.has_lists or (not is_ascii and any(other.has_lists for other in before)):
        raise _broken(path, "it has list properties in or before its vertices")

    dtype = element.dtype(byte_order)
    lines_before = sum(other.count for other in before)
    if is_ascii:  # a number takes two bytes, itself and a separator, and the last separator may be missing
        offset = header_bytes + lines_before
        needed = offset + 2 * element.count * len(element.properties) - 1
    else:
        offset = header_bytes + sum(other.count * other.dtype(byte_order).itemsize for other in before)
        needed = offset + element.count * dtype.itemsize
    if needed > file_bytes:
        raise BadInputError(
            f"{path} is cut short: {element.count} vertices need {needed} bytes, the file has {file_bytes}. "
            "Write or copy it again."
        )
    if not is_ascii and element is elements[-1] and needed < file_bytes:
        raise _broken(path, f"{file_bytes - needed} bytes follow the last vertex, so header and data disagree")
    return Vertices(element.count, dtype, is_ascii, offset, lines_before)


def _header_lines(stream: BinaryIO, path: Path) -> list[str]:
    """The lines between `ply` and `end_header`; the end of the first line, LF or CRLF, holds for all of them."""
    first = stream.readline(8)
    ending = first[3:]
    if first[:3] != b"ply" or ending not in (b"\n", b"\r\n"):
        raise BadInputError(f"{path} is not a .ply file: it does not begin with the line 'ply'. Give another file.")
    lines: list[str] = []
    while stream.tell() < MAX_HEADER_BYTES:
        line = stream.readline(MAX_HEADER_BYTES)
        if not line.endswith(ending):
            break
        text = line[: -len(ending)].decode("ascii", "replace").strip()
        if text == "end_header":
            return lines
        lines.append(text)
    raise _broken(path, "its header does not end")


def _parse(lines: list[str]) -> tuple[str, list[Element]]:
    """Header lines -> NumPy byte order ("" for ASCII) and the elements. Raises ValueError with the reason."""
    byte_order: str | None = None
    elements: list[Element] = []
    for line in lines:
        match line.split():
            case [] | ["comment" | "obj_info", *_]:
                pass
            case ["format", kind, "1.0"] if kind in _BYTE_ORDERS:
                byte_order = _BYTE_ORDERS[kind]
            case ["element", name, count] if count.isdecimal() and len(count) < 19:
                elements.append(Element(name, int(count), []))
            case ["property", "list", _, _, _] if elements:
                elements[-1].has_lists = True
            case ["property", kind, name] if elements and kind in _TYPES:
                if any(name == other for other, _ in elements[-1].properties):
                    raise ValueError(f"its header names the property {name} twice")
                elements[-1].properties.append((name, _TYPES[kind]))
            case _:
                raise ValueError(f"its header has the line {line[:60]!r}")
    if byte_order is None:
        raise ValueError("its header has no format line")
    return byte_order, elements


def _broken(path: Path, reason: str) -> BadInputError:
    return BadInputError(f"{path} is not a usable .ply file: {reason}. Write it again or give another file.")
