"""The machine: GPUs, environments, the device to compute on, and the checks of `sam3d-gs doctor`."""
