"""The columns of the rows that Python writes and the ray caster reads, defined once for both.

A shape is rows of primitives with the columns of `procedural.shape`. A *view* is the camera and the light; a *material*
is the surface of a part of the shape. `header()` writes the definitions for the compiler.
"""

from __future__ import annotations

from procedural import shape

MAX_PRIMITIVES = 24  # of one shape; the grammars of the evaluation set stop at 14
MATERIALS = shape.MATERIALS

# Columns of a view. Camera frame: x right, y up, z towards the viewer; rays run along z, or lean towards the axis.
VIEW = {
    "TURN": 0,  # 9: rows of the rotation, shape frame to camera frame
    "CENTRE": 9,  # 2: x, y of the crop's centre
    "HALF": 11,  # half the crop's side
    "LEAN": 12,  # by this share of x and y per unit of z rays meet: 0 is parallel, 0.3 a near camera
    "SUN": 13,  # 3: unit vector towards it, camera frame
    "SUN_RGB": 16,  # 3
    "SKY_RGB": 19,  # 3: light from above
    "GROUND_RGB": 22,  # 3: light from below
    "SHADE": 25,  # strength of cast shadows and of darkened corners, 0..1
    "BUMP_HEIGHT": 26,
    "BUMP_FREQUENCY": 27,
    "TWIST": 28,  # rad per unit of height
    "TAPER": 29,  # relative growth of x and z per unit of height
    "SALT": 30,  # of the noise in the textures
    "PRINT_AXIS": 31,  # 3: unit vector of the side that carries a print
    "PRINT": 34,  # 1: there is one
    "PRINT_FREQUENCY": 35,
    "PRINT_RGB": 36,  # 3
}
VIEW_LENGTH = 40

# Columns of a material.
MATERIAL = {
    "COLOUR": 0,  # 3
    "SECOND": 3,  # 3
    "PATTERN": 6,
    "FREQUENCY": 7,
    "DIRECTION": 8,  # 3
    "PHASE": 11,
    "GLOSS": 12,
    "SHINE": 13,
    "GRAIN": 14,
    "SHARPNESS": 15,
    "GRAIN_FREQUENCY": 16,
}
MATERIAL_LENGTH = 18
PATTERNS = ("PLAIN", "STRIPES", "CHECKS", "CLOUDS", "FADE", "SPLIT", "DOTS", "RINGS")

# Planes of a picture. Depths grow towards the viewer; the four layers are first entry, first exit, second entry and
# last exit. Where the ray meets one solid stretch only, exit and entry in the middle are both halfway.
PLANES = {
    "SEEN": 0,
    "LAYERS": 1,  # 4
    "HOLLOW": 5,  # 1 where the ray leaves the object and enters it again
    "RGB": 6,  # 3: lit front
    "FRONT_RGB": 9,  # 3: front without light
    "BACK_RGB": 12,  # 3: back without light
}
PLANE_COUNT = 15

_KINDS = ("ELLIPSOID", "BOX", "CYLINDER", "LIMB", "TORUS", "CONE", "REVOLVED", "SUPERQUADRIC", "EXTRUDED", "PRISM")
_OPERATIONS = ("UNION", "SMOOTH_UNION", "SUBTRACT", "SMOOTH_SUBTRACT")
_COLUMNS = ("KIND", "OPERATION", "BLEND", "MIRROR", "POSITION", "ROTATION", "SIZES", "ROW_LENGTH")


def header() -> str:
    """The definitions as C macros."""
    values = {"MAX_PRIMITIVES": MAX_PRIMITIVES, "MATERIALS": MATERIALS, "PART": shape.MATERIAL}
    values |= {"MIRROR_X": shape.MIRROR_X, "MIRROR_Z": shape.MIRROR_Z}
    values |= {name: getattr(shape, name) for name in (*_KINDS, *_OPERATIONS, *_COLUMNS)}
    values |= {f"V_{name}": column for name, column in VIEW.items()} | {"VIEW_LENGTH": VIEW_LENGTH}
    values |= {f"M_{name}": column for name, column in MATERIAL.items()} | {"MATERIAL_LENGTH": MATERIAL_LENGTH}
    values |= {name: number for number, name in enumerate(PATTERNS)}
    values |= {f"P_{name}": plane for name, plane in PLANES.items()} | {"PLANE_COUNT": PLANE_COUNT}
    return "".join(f"#define {name} {value}\n" for name, value in values.items())
