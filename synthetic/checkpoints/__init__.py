"""Checkpoints of SAM 3D Objects with random weights, for tests and speed measurements.

    python -m synthetic.checkpoints DIR --size tiny

`write_folder.py` writes them in the official layout; `random_networks.py` makes the weights without files, and says
what they do; `configs.py` holds the two sizes, `yaml_writing.py` the YAML files of a configuration.
"""

from synthetic.checkpoints.configs import SIZES, full_config, tiny_config
from synthetic.checkpoints.random_networks import RandomNetworks
from synthetic.checkpoints.write_folder import make_checkpoints
from synthetic.checkpoints.yaml_writing import yaml_files

__all__ = ["SIZES", "RandomNetworks", "full_config", "make_checkpoints", "tiny_config", "yaml_files"]
