"""Compare our modules with numbers recorded from upstream's: `python -m sam3d_gs.sam3d_torch.parity DIR`."""
