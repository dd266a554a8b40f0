"""Procedural scenes with known masks, depth, shapes and poses: our own evaluation set.

``scene.make_scene(seed, size_px)`` builds one; ``files.save(scene, folder)`` writes it as a photo with masks and its
truth. The shapes alone (``families``) need NumPy only; training draws from them too.
"""
