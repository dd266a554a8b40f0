"""The photo with its masks: tinted, outlined and numbered, over a legend of the numbers."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sam3d_gs.types import InstanceMask, Photo

MIN_SIDE_PX, MAX_SIDE_PX = 640, 1600  # of the photo's longer side in the picture
TINT = 0.4
PAPER, INK, FAINT = (250, 250, 248), (32, 32, 36), (120, 120, 126)
_INSTALLED_FONTS = (  # tried by name; the first ones have most scripts except Chinese
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "DroidSansFallbackFull.ttf",
    "wqy-microhei.ttc",
    "msyh.ttc",
    "PingFang.ttc",
)
_PLACING_PX = 96  # labels are placed on masks of this size

Rgb = tuple[int, int, int]


def mask_overlay(photo: Photo, masks: Sequence[InstanceMask]) -> Image.Image:
    """The photo with every mask that was kept, numbered from 1 in the order given, over a legend.

    Small photos are enlarged and large ones reduced, so that labels and outlines stay readable.
    """
    kept = [mask for mask in masks if mask.dropped is None]
    longer = max(photo.width_px, photo.height_px)
    scale = min(max(longer, MIN_SIDE_PX), MAX_SIDE_PX) / longer
    size = max(1, round(photo.width_px * scale)), max(1, round(photo.height_px * scale))
    text_px = max(15, round(max(size) / 60))
    line_px = max(2, round(max(size) / 400))

    picture = np.array(Image.fromarray(photo.rgb).resize(size, Image.Resampling.LANCZOS), np.float32)
    inside = [_resized(mask.mask, size) for mask in kept]
    for number, mask in enumerate(inside, 1):
        picture[mask] += TINT * (np.array(object_colour(number), np.float32) - picture[mask])
    for number, mask in enumerate(inside, 1):
        picture[_grown(mask, 1 + line_px // 3) & ~mask] = 255.0
        picture[mask & ~_grown(mask, -line_px)] = object_colour(number)

    drawn = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(drawn)
    places: list[tuple[float, float]] = []
    for number, instance in enumerate(kept, 1):
        places.append(_label_place(instance, size, places, text_px))
        _badge(draw, places[-1], number, text_px)
    return _with_legend(drawn, kept, text_px)


def object_colour(number: int) -> Rgb:
    """The colour of object `number` (from 1), the same in every picture; sRGB, 0..255.

    Hues step by the golden angle, which never repeats, at three lightnesses, in OKLCH (Ottosson 2020), where equal
    distances look equal.
    """
    hue = np.radians(25.0 + 137.50776405 * (number - 1))
    lightness = (0.66, 0.78, 0.55)[(number - 1) % 3]
    chroma = 0.17
    while True:
        rgb = _oklab_to_linear_rgb(lightness, chroma * np.cos(hue), chroma * np.sin(hue))
        if (rgb >= 0).all() and (rgb <= 1).all():
            break
        chroma *= 0.95  # towards grey until a screen can show it
    encoded = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    red, green, blue = (round(255 * float(value)) for value in encoded)
    return red, green, blue


def _oklab_to_linear_rgb(lightness: float, a: float, b: float) -> np.ndarray:
    """Ottosson, "A perceptual color space for image processing", 2020."""
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    to_rgb = [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
    return np.asarray(np.array(to_rgb) @ [long, medium, short])


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def font(size_px: int) -> Font:
    """The font that comes with Pillow, so that no font needs to be installed."""
    return ImageFont.load_default(size_px)


def _font_for(text: str, size_px: int) -> tuple[str, Font]:
    """The text and a font to write it with: Pillow's own, or an installed one that has all of its characters.

    Pillow's font has no accents. When no other font is found, accents are left out and other scripts become boxes.
    """
    own = font(size_px)
    if _has_all(own, text):
        return text, own
    for name in _INSTALLED_FONTS:
        try:
            other = ImageFont.truetype(name, size_px)
        except OSError:
            continue
        if _has_all(other, text):
            return text, other
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char)), own


def _has_all(letters: Font, text: str) -> bool:
    unknown = letters.getmask("\U0010fffd")  # a private-use character that no font draws
    return text.isascii() or all(
        letters.getmask(char).size != unknown.size or bytes(letters.getmask(char)) != bytes(unknown)
        for char in set(text)
        if not char.isascii()
    )


def _resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask at another size (width, height); a pixel is inside when half of it is covered."""
    grey = Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(grey) > 127


def _grown(mask: np.ndarray, by_px: int) -> np.ndarray:
    """The mask grown by some pixels on all four sides, or shrunk when `by_px` is negative."""
    if by_px < 0:
        return ~_grown(~mask, -by_px)
    grown = mask.copy()
    for _ in range(by_px):
        before = grown.copy()
        grown[1:] |= before[:-1]
        grown[:-1] |= before[1:]
        grown[:, 1:] |= before[:, :-1]
        grown[:, :-1] |= before[:, 1:]
    return grown


def _label_place(
    mask: InstanceMask, size: tuple[int, int], others: Sequence[tuple[float, float]], text_px: int
) -> tuple[float, float]:
    """Where the mask is thickest, away from the labels already placed; px in the picture."""
    x0, y0, x1, y1 = mask.box_xyxy
    height, width = mask.mask.shape
    to_picture = np.array([size[0] / width, size[1] / height])
    best = np.array([(x0 + x1) / 2, (y0 + y1) / 2]) * to_picture
    if mask.area_px:
        step = max(1, -(-max(x1 - x0, y1 - y0) // _PLACING_PX))
        remaining = np.pad(mask.mask[y0:y1:step, x0:x1:step], 1)
        depth = np.zeros(remaining.shape)
        while remaining.any():
            depth += remaining
            remaining = _grown(remaining, -1)
        rows, columns = np.nonzero(depth)
        if len(rows):
            centres = (np.stack([columns - 0.5, rows - 0.5], 1) * step + [x0, y0]) * to_picture
            score = depth[rows, columns] * step * to_picture.min()
            score = score - 0.05 * np.linalg.norm(centres - best, axis=1)  # of equal ones the middle
            for other in others:
                crowding = 1.9 * text_px - np.linalg.norm(centres - other, axis=1)
                score = score - 4.0 * np.maximum(crowding, 0.0)
            best = centres[np.argmax(score)]
    x, y = np.clip(best, text_px, np.maximum(np.array(size) - text_px, text_px))
    return float(x), float(y)


def _badge(draw: ImageDraw.ImageDraw, centre: tuple[float, float], number: int, text_px: int) -> None:
    """A disc in the object's colour with its number."""
    colour, (x, y), radius = object_colour(number), centre, 0.85 * text_px
    dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 140
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline="white", width=2)
    draw.text((x, y), str(number), (255, 255, 255) if dark else (0, 0, 0), font(text_px), anchor="mm")


def _with_legend(picture: Image.Image, masks: Sequence[InstanceMask], text_px: int) -> Image.Image:
    """The picture over as many columns of number, phrase and score as fit."""
    if not masks:
        return picture
    pad, row_px = text_px, round(2.1 * text_px)
    width = max(picture.width, 20 * text_px)  # the legend stays readable below a narrow photo
    columns = max(1, min(len(masks), (width - pad) // (19 * text_px)))
    rows = -(-len(masks) // columns)
    sheet = Image.new("RGB", (width, picture.height + rows * row_px + pad), PAPER)
    sheet.paste(picture, ((width - picture.width) // 2, 0))
    draw, digits = ImageDraw.Draw(sheet), font(text_px)
    column_px = (width - pad) / columns
    for i, mask in enumerate(masks):
        x = pad + i // rows * column_px
        y = picture.height + pad / 2 + (i % rows + 0.5) * row_px
        _badge(draw, (x + 0.85 * text_px, y), i + 1, text_px)
        score = f"{mask.score:.2f}"
        room = column_px - 3.4 * text_px - draw.textlength(score, digits)
        phrase, letters = _font_for(_printable(mask.phrase), text_px)
        phrase = _shortened(phrase, room, draw, letters)
        draw.text((x + 2.2 * text_px, y), phrase, INK, letters, anchor="lm")
        after = x + 2.7 * text_px + draw.textlength(phrase, letters)
        draw.text((after, y), score, FAINT, digits, anchor="lm")
    return sheet


def _printable(text: str) -> str:
    """One line without control characters and lone surrogates, which a font cannot draw."""
    spaced = " ".join(text.split())
    return "".join(char for char in spaced if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Cn"))


def _shortened(text: str, room_px: float, draw: ImageDraw.ImageDraw, letters: Font) -> str:
    if draw.textlength(text, letters) <= room_px:
        return text
    while text and draw.textlength(text + "...", letters) > room_px:
        text = text[:-1]
    return text.rstrip() + "..."
