"""Writing a scene to a folder: the photo, one PNG per mask, and the ground truth as JSON and NPZ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from procedural.scene import ProceduralScene
from sam3d_gs.files import atomic_path, write_json


def save(scene: ProceduralScene, folder: Path) -> Path:
    """Write `<folder>/<name>/<name>.png`, `mask_NN.png`, `truth.json` and `truth.npz`; return the scene's folder.

    The scene's folder `<name>` has the layout that the benchmarks' `--photos` reads: `<name>.png` and `mask_*.png`.
    Mask NN belongs to object NN of the JSON. Masks are 8-bit, 255 inside.
    """
    name = f"scene-{scene.seed:04d}"
    target = folder / name
    with atomic_path(target / f"{name}.png") as path:
        Image.fromarray(scene.rgb).save(path)
    for i, thing in enumerate(scene.objects):
        with atomic_path(target / f"mask_{i:02d}.png") as path:
            Image.fromarray(thing.mask.astype(np.uint8) * 255).save(path)
    with atomic_path(target / "truth.npz") as path:
        arrays = {f"surface_{i:02d}": thing.surface for i, thing in enumerate(scene.objects)}
        arrays |= {f"amodal_{i:02d}": thing.amodal_mask for i, thing in enumerate(scene.objects)}
        arrays |= {"ids": scene.ids, "depth": scene.depth}
        with path.open("wb") as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    write_json(target / "truth.json", _truth(scene))
    return target


def _truth(scene: ProceduralScene) -> dict[str, object]:
    height, width = scene.ids.shape
    return {
        "seed": scene.seed,
        "frame": "camera: x right, y down, z forward; object: z up, unit cube; x_cam = T_camera_object @ x_obj",
        "image_size": [width, height],
        "K": scene.K.tolist(),
        "up_camera": scene.up_camera.tolist(),
        "pitch_deg": scene.pitch_deg,
        "objects": [
            {
                "name": thing.name,
                "mask": f"mask_{i:02d}.png",
                "surface": f"surface_{i:02d}",
                "T_camera_object": thing.T_camera_object.tolist(),
                "visible_px": int(thing.mask.sum()),
                "amodal_px": int(thing.amodal_mask.sum()),
            }
            for i, thing in enumerate(scene.objects)
        ],
    }
