"""Masks in NumPy files: one mask, a label map, or a stack of masks; never a pickled object."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from sam3d_gs.errors import BadInputError
from sam3d_gs.masks.given.found import MAX_OBJECTS, Found, Labels, named
from sam3d_gs.masks.given.greys import labels_of
from sam3d_gs.masks.given.pictures import page_labels
from sam3d_gs.numpy_files import read_array

_MAX_BYTES = 1 << 32
_UNNAMED = {"arr_0", "mask", "masks", "data", "segmentation", "labels"}


def read_arrays(path: Path, name: str, aspect: float) -> tuple[list[Found], list[str]]:
    """The objects in a .npy or .npz file, and notes on what was assumed.

    aspect: width / height of the photo, which tells a stack of masks from rows and columns. Raises BadInputError.
    """
    found: list[Found] = []
    notes: list[str] = []
    try:
        arrays = dict(_arrays(path))
        pictures = {key: array for key, array in arrays.items() if len(arrays) == 1 or _is_picture(array, aspect)}
        left = [f"{key} {array.shape}" for key, array in arrays.items() if key not in pictures]
        if not pictures:
            raise ValueError(f"none of its arrays has the photo's shape: {', '.join(left)}")
        if left:
            notes.append(f"has arrays that are no masks, which are left out: {', '.join(left)}")
        for key, array in pictures.items():
            words = name if key in _UNNAMED else key.replace("_", " ")
            layers = _layers(array, aspect, path)
            names = _names(arrays, len(layers))
            for number, layer in enumerate(layers):
                labels = _labels(layer, path)
                part = f" {number}" if len(layers) > 1 else ""
                found += named(labels, names[number] if names else f"{words}{part}", f"{path.name} [{key}{part}]")
                notes += labels.notes
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, MemoryError, OverflowError) as error:
        reason = str(error) or type(error).__name__
        if "pickle" in reason or "Python objects" in reason:
            reason = "it holds Python objects, which are never loaded. Save arrays of numbers"
        raise BadInputError(f"{path} cannot be read as masks: {reason}.") from error
    return found, list(dict.fromkeys(notes))


def _arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    if path.suffix.lower() == ".npy":
        yield "arr_0", np.load(path, mmap_mode="r", allow_pickle=False)  # a header cannot claim more than the file has
        return
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
            raise ValueError(f"it unpacks to more than {_MAX_BYTES >> 30} GiB")
        for member in archive.infolist():
            with archive.open(member) as stream:
                yield member.filename.removesuffix(".npy"), read_array(stream, member.file_size)


def _is_picture(array: np.ndarray, aspect: float) -> bool:
    """Whether an array has the photo's shape, upright or turned: scores, boxes and points beside masks do not."""
    if array.dtype.kind not in "buif" or array.ndim < 2 or not array.size:
        return False
    sides = (array.shape[-2:], array.shape[:2])
    return any(abs(abs(math.log(w / h)) - abs(math.log(aspect))) < 0.02 and min(h, w) > 4 for h, w in sides)


def _names(arrays: dict[str, np.ndarray], count: int) -> list[str]:
    """The names of a stack of masks, if the file has an array of as many texts; else none."""
    if count < 2:
        return []
    return next((list(map(str, a)) for a in arrays.values() if a.dtype.kind == "U" and a.shape == (count,)), [])


def _layers(array: np.ndarray, aspect: float, path: Path) -> list[np.ndarray]:
    """(H, W) or (H, W, 3 or 4) arrays out of any stack. Raises BadInputError for other shapes."""
    shape = array.shape
    if array.dtype.kind not in "buif" or not array.size:
        raise BadInputError(f"{path} holds {array.dtype} {shape}. Expected numbers (H, W) or (N, H, W).")
    if array.ndim == 4 and shape[0] == 1:  # a batch of one photo
        array = array[0]
    elif array.ndim == 4 and 1 in (shape[1], shape[3]):  # (N, 1, H, W), as networks return them, or (N, H, W, 1)
        array = array[:, 0] if shape[1] == 1 else array[..., 0]
    if array.ndim == 2:
        return [array]
    if array.ndim != 3:
        raise BadInputError(f"{path} holds an array of shape {shape}. Expected (H, W) or (N, H, W).")

    def distance(height: int, width: int) -> float:
        return abs(math.log(width / height / aspect))

    first, last = distance(*array.shape[1:]), distance(*array.shape[:2])
    if last < first and array.shape[2] in (3, 4) and array.dtype == np.uint8:
        return [array]  # a picture
    layers = [array[i] for i in range(array.shape[0])] if first <= last else list(np.moveaxis(array, -1, 0))
    if len(layers) > MAX_OBJECTS:
        raise BadInputError(f"{path} holds {len(layers):,} masks, more than {MAX_OBJECTS}. Give those to lift.")
    return layers


def one_mask(array: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """(H, W) bool from an array in memory: bool, two numbers, or probabilities; and notes on what was assumed.

    name: of the array, for messages. Raises BadInputError for anything else.
    """
    if array.ndim != 2 or not array.size or array.dtype.kind not in "buif":
        raise BadInputError(f"{name} is {array.dtype} {array.shape}. Expected an array (H, W) of one mask.")
    if array.dtype == bool:
        return array, ()
    labels = _labels(array, name)
    if len(labels.masks) > 1:
        raise BadInputError(
            f"{name} holds {len(labels.masks)} labels ({', '.join(labels.masks)}). Give one mask for each."
        )
    return next(iter(labels.masks.values())), labels.notes


def _labels(layer: np.ndarray, path: object) -> Labels:
    layer = np.asarray(layer)
    if layer.ndim == 3:
        return page_labels(Image.fromarray(layer), path)
    if layer.dtype.kind == "f":
        return _of_floats(layer, path)
    return labels_of(layer.astype(np.uint8) if layer.dtype == bool else layer, path)


def _of_floats(layer: np.ndarray, path: object) -> Labels:
    if not np.isfinite(layer).all():
        raise BadInputError(f"{path} has NaN or infinite values, as depth maps have.")
    if float(abs(layer).max()) < 1 << 31 and np.array_equal(layer, np.round(layer)):
        return labels_of(layer.astype(np.int32), path)
    if len(np.unique(layer[::7, ::7])) == 2 and layer.min() >= 0:  # two numbers, whatever they are
        return labels_of(layer, path)
    if layer.min() < 0 < layer.max():
        return Labels({"": layer > 0}, ("has values on both sides of 0, as a network's logits: above 0 is the object",))
    if layer.min() >= 0 and layer.max() <= 1:
        between = float(((layer > 0.1) & (layer < 0.9)).mean())
        if between <= 0.4:
            return Labels({"": layer > 0.5}, ("has probabilities: above 0.5 is the object",))
    raise BadInputError(f"{path} has numbers that are neither a mask nor labels nor probabilities, but a depth map?")
