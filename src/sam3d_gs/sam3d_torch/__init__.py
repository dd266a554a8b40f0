"""SAM 3D Objects in plain PyTorch: the official checkpoints, Gaussians only, nothing to install but torch.

Read `runtime.py` first: it is the whole way from a photo and a mask to posed Gaussians, one call a step.
"""
