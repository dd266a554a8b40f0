"""Procedural scenes with known masks, depth, shapes and poses: our own evaluation set.

``scene.make_scene(seed, size_px)`` creates one; ``files.save(scene, folder)`` writes it as a photo with masks and
ground truth. The shapes alone (``families``) need only NumPy; training uses them, too.
"""
