import os

if not os.environ.get("LIDRA_SKIP_INIT"):
    import sam3d_objects.init  # noqa: F401  not in the public repository
