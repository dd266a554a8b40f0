"""`python -m sam3d_gs` is the same program as `sam3d-gs`."""

from sam3d_gs.cli import main

if __name__ == "__main__":
    main()
