"""Stand-in for the official notebook/inference.py: the same public class and the same effects of importing it."""

import os

os.environ["CUDA_HOME"] = os.environ["CONDA_PREFIX"]
os.environ["LIDRA_SKIP_INIT"] = "true"

import sam3d_objects  # noqa: F401
from sam3d_objects.pipeline.inference_pipeline_pointmap import InferencePipelinePointMap


class Inference:
    def __init__(self, config_file: str, compile: bool = False):
        if not os.path.exists(config_file):
            raise FileNotFoundError(config_file)
        self._pipeline = InferencePipelinePointMap(workspace_dir=os.path.dirname(config_file))
