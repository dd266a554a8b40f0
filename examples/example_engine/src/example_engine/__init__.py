"""An engine of masks for sam3d_gs, in a package of its own."""
