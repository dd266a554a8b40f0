"""Stand-in for the official pipeline: its signatures, types and quirks, without its networks.

An object's Gaussians are the depth points inside its mask, so that they cover the mask exactly when pose and camera
are read as upstream means them. The rotation is any one; only a reader with the right convention undoes it.
"""

import os

import numpy as np
import torch

if torch.cuda.is_available():
    gpu_name = torch.cuda.get_device_name(0)
if "A100" in gpu_name or "H100" in gpu_name or "H200" in gpu_name:  # without a card this name is not bound
    os.environ["ATTN_BACKEND"] = "flash_attn"
    os.environ["SPARSE_ATTN_BACKEND"] = "flash_attn"
BACKEND = os.environ.get("ATTN_BACKEND", "sdpa")
if BACKEND == "flash_attn":
    import flash_attn  # noqa: F401

QUATERNION = torch.tensor([0.7, 0.1, -0.5, 0.5]) / torch.tensor([0.7, 0.1, -0.5, 0.5]).norm()  # wxyz
FOCAL = 0.9  # of the depth model, in picture widths


def rotation_matrix(q):
    w, x, y, z = q.tolist()
    return torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


class DepthModel:
    """OpenCV points, invalid ones infinite, and intrinsics in units of the picture's sides."""

    calls = 0

    def __call__(self, image):
        assert image.dtype == torch.float32 and image.ndim == 3 and image.shape[0] == 3 and image.max() <= 1
        self.calls += 1
        _, height, width = image.shape
        fx, fy = FOCAL, FOCAL * width / height
        u, v = torch.meshgrid((torch.arange(width) + 0.5) / width, (torch.arange(height) + 0.5) / height, indexing="xy")
        z = 2 + u
        points = torch.stack([(u - 0.5) / fx * z, (v - 0.5) / fy * z, z], -1)
        mask = image.mean(0) > 0.05  # black is sky
        points = torch.where(mask[..., None], points, torch.inf)
        intrinsics = torch.tensor([[fx, 0, 0.5], [0, fy, 0.5], [0, 0, 1]])
        return {"points": points, "pointmaps": points, "intrinsics": intrinsics, "mask": mask}


class Gaussian:
    """Parameters before activation, as the decoder leaves them."""

    def __init__(self, xyz, features, scale):
        self._xyz, self._features_dc = xyz + 0.5, features[:, None]
        self._scaling = torch.full_like(xyz, float(np.log(np.expm1(scale))))
        self._rotation = torch.zeros(len(xyz), 4)
        self._opacity = torch.full((len(xyz), 1), 3.0)
        self.rots_bias = torch.tensor([1.0, 0, 0, 0])

    get_xyz = property(lambda self: self._xyz - 0.5)
    get_features = property(lambda self: self._features_dc)
    get_scaling = property(lambda self: torch.sqrt(torch.nn.functional.softplus(self._scaling) ** 2 + 0.0009**2))
    get_rotation = property(lambda self: torch.nn.functional.normalize(self._rotation + self.rots_bias[None]))
    get_opacity = property(lambda self: torch.sigmoid(self._opacity))


class InferencePipelinePointMap:
    def __init__(self, workspace_dir="", device="cpu", dtype="bfloat16"):
        self.device, self.dtype = torch.device(device), getattr(torch, dtype)
        self.ss_inference_steps = self.slat_inference_steps = 25
        self.depth_model = DepthModel()
        self.runs = []  # for the tests
        torch.load(os.path.join(workspace_dir, "ss_generator.ckpt"), weights_only=False)

    def run(
        self,
        image,
        mask=None,
        seed=None,
        stage1_only=False,
        with_mesh_postprocess=True,
        with_texture_baking=True,
        with_layout_postprocess=True,
        use_vertex_color=False,
        stage1_inference_steps=None,
        stage2_inference_steps=None,
        use_stage1_distillation=False,
        use_stage2_distillation=False,
        pointmap=None,
        decode_formats=None,
        estimate_plane=False,
    ) -> dict:
        assert mask is None and image.ndim == 3 and image.shape[-1] == 4 and image.dtype == np.uint8
        self.runs.append({name: value for name, value in locals().items() if name not in ("self", "image", "pointmap")})
        inside = torch.from_numpy(image[..., 3] > 0)
        rows, columns = torch.nonzero(inside.any(1)), torch.nonzero(inside.any(0))
        if columns.max() - columns.min() < 2 or rows.max() - rows.min() < 2:
            raise ValueError("bounding box is too small")
        if pointmap is None:
            camera = self.depth_model(torch.from_numpy(image[..., :3].astype(np.float32) / 255).permute(2, 0, 1))
            pointmap = camera["pointmaps"] * torch.tensor([-1.0, -1, 1])
        points = pointmap.to(self.device)[inside]
        points = points[torch.isfinite(points).all(-1)]
        if seed is not None:
            torch.manual_seed(seed)
        noise = torch.randn(len(points), 3)
        translation = points.nanmedian(0).values
        scale = 2.5 * (points - translation).abs().max()
        xyz = (points - translation) / scale @ rotation_matrix(QUATERNION).T  # rows are points
        made = {
            "rotation": QUATERNION[None],
            "translation": translation[None],
            "scale": scale.expand(1, 3),
            "coords": torch.zeros(len(points), 4, dtype=torch.int32),
            "downsample_factor": 1,
            "glb": None,
        }
        for form in ["gaussian", "mesh"] if decode_formats is None else decode_formats:
            made[form] = [Gaussian(xyz, noise, 0.01)]
        return made
