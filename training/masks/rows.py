"""The records that Python passes to the compositor: rows of 32-bit floats, whose columns are defined here only.

`header` turns them into C structs, so that both sides agree.

*View frame* of a scene: the picture before the camera's roll, x right and y down in units of its side, origin in the
middle. Depth runs along the camera's axis; the camera is one unit above the ground.
*Sprite frame*: what a sprite was rendered in, x right, y up, z towards the viewer, origin at the shape's own; the
sprite's window is a square of it. In *window coordinates* the window is -1..1, x right, y down.
"""

from __future__ import annotations

SPRITE = (
    "half",  # of the window's side, sprite frame
    "centre_x",  # of the window
    "centre_y",
    "up_x",  # the shape's own upward axis, a unit vector
    "up_y",
    "up_z",
    "foot_x",  # middle of what it stands on
    "foot_y",
    "foot_z",
    "height",  # from foot to top, along up
    "width",  # largest horizontal extent
    "members",  # sprites of the set that begins here; they share their frame. 0: it is not the first of its set
    "top",  # height of a level surface that can carry things, over the foot; 0: none
    "top_half_width",  # of that surface, sprite frame, along the two horizontal axes
    "top_half_length",
    "right_x",  # first horizontal axis of the shape
    "right_y",
    "right_z",
)

SCENE = (
    "seed",  # of what is random per pixel, a whole number below 2^24
    "placed",  # 1: things stand on the ground and the labels of geometry hold; 0: sprites strewn over a picture
    "focal",  # in units of the picture's side
    "pitch_sin",  # of the angle by which the camera looks down
    "pitch_cos",
    "roll_sin",
    "roll_cos",
    "wall",  # 1: there is a wall; 0: sky above the horizon
    "wall_distance",  # from the camera's foot along the wall's normal
    "wall_sin",  # of the angle between the camera's direction and the wall's normal
    "wall_cos",
    "corner",  # 1: a second wall at right angles
    "corner_distance",
    "fractal",  # 1: stone or cloud instead of wall and ground; 2: leaves, petals or pebbles
    "thicket_distance",  # of a row of trees, a hedge or tall grass across the view; 0: none
    "thicket_height",
    "sun",  # strength of a patch of light on the ground
    "sun_x",
    "sun_z",
    "sun_size",
    "sky_r",
    "sky_g",
    "sky_b",
    # the camera and the file
    "exposure",
    "balance_r",
    "balance_g",
    "balance_b",
    "gamma",
    "contrast",
    "saturation",
    "haze",
    "haze_r",
    "haze_g",
    "haze_b",
    "vignette",
    "patches",  # strength of large soft shadows that lie over everything
    "patches_scale",
    "blur",  # standard deviation, pixels
    "focus",  # inverse depth that is sharp
    "defocus",  # standard deviation of the blur, pixels, for each unit of inverse depth away from it
    "noise",  # standard deviation, 0..1
    "jpeg",  # quantisation step of the lowest frequencies, 0..1; 0: none
    "drawing",  # 1: only lines are drawn
    "line",  # their strength
)

SURFACE = (  # one per scene for the ground, the wall, the corner wall, the thicket
    "r",
    "g",
    "b",
    "r2",  # second colour of the pattern
    "g2",
    "b2",
    "pattern",  # 0 plain, 1 planks, 2 tiles, 3 checks, 4 stripes, 5 clouds, 6 leaves, 7 windows of a house
    "frequency",  # cells per unit
    "aspect",
    "turn_sin",
    "turn_cos",
    "joint",  # width of the joints, in cells
    "grain",  # strength of fine noise
    "grain_frequency",
)

PANEL = (  # rectangles on the walls and the ground
    "on",  # 0: none; 1: on the wall; 2: on the ground
    "label",
    "x",  # middle: along the wall and above the ground, or right of and before the camera
    "y",
    "half_width",
    "half_height",
    "frame",  # width of the frame, share of the half size
    "bars",  # crossbars, as a window has them
    "glow",  # 0: painted; 1: one looks through it at something bright
    "r",
    "g",
    "b",
    "frame_r",
    "frame_g",
    "frame_b",
    "structure",  # strength of the pattern seen in it
)

LAYER = (
    "sprite",  # index in the bank; negative: nothing is drawn
    "label",  # 1..LAYERS: an object of its own; 0: background; IGNORE: neither
    "xx",  # window x = xx * view x + xy * view y + x0
    "xy",
    "x0",
    "yx",
    "yy",
    "y0",
    "level",  # of the mip pyramid
    "depth",  # where the sprite's z is 0
    "depth_per_z",
    "brightness",
    "tint_r",
    "tint_g",
    "tint_b",
    "fade",  # towards the scene's mean colour: things hard to tell from what is behind
    "grain",
    "grain_frequency",
    "print",  # 0: none; 1: patches with light borders, as a giraffe's; 2: wavy stripes, as a zebra's
    "print_strength",
    "print_frequency",
    "shadow",  # strength of the cast shadow
    "shadow_xx",
    "shadow_xy",
    "shadow_x0",
    "shadow_yx",
    "shadow_yy",
    "shadow_y0",
    "shadow_level",
    "contact",  # strength of the dark rim where it stands
    "contact_x",
    "contact_y",
    "contact_half_width",
    "contact_half_height",
    "mirror",  # strength of the reflection in the ground
    "foot_row",  # window y of the foot
)

LAYERS = 20
PANELS = 8
SURFACES = 4
IGNORE = 31  # label of pixels that count neither as object nor as background
NEAR = 0.1  # nothing nearer is drawn
FAR = 40.0  # depth of the sky, and the largest depth of a label

_RECORDS = {"Sprite": SPRITE, "Scene": SCENE, "Surface": SURFACE, "Panel": PANEL, "Layer": LAYER}


def header() -> str:
    """The records as C structs."""
    structs = [
        f"struct {name} {{ float {', '.join(fields)}; }};\n"
        f'static_assert(sizeof({name}) == {4 * len(fields)}, "rows of {name} are packed");'
        for name, fields in _RECORDS.items()
    ]
    numbers = {"LAYERS": LAYERS, "PANELS": PANELS, "SURFACES": SURFACES, "IGNORE_LABEL": IGNORE}
    constants = [f"constexpr int {name} = {value};" for name, value in numbers.items()]
    return "\n".join(
        ["#pragma once", *constants, f"constexpr float NEAR_DEPTH = {NEAR}f, FAR_DEPTH = {FAR}f;", *structs, ""]
    )
