"""Procedural scenes with known masks, depth, shapes and poses: our own evaluation set.

``make_scene(seed, size_px)`` builds one; ``save(scene, folder)`` writes it as a photo with masks and its truth.
"""

from procedural.files import save
from procedural.scene import ProceduralObject, ProceduralScene, make_scene

__all__ = ["ProceduralObject", "ProceduralScene", "make_scene", "save"]
