"""Every default of every option, written once. The CLI's signatures refer to these and Typer prints them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

STAGES = ("phrases", "masks", "objects", "scene")

EXPORT_FORMATS = ("spz", "compressed.ply", "ply")
EXPORT_FRAMES = ("opencv", "opengl", "y-up", "z-up", "ros")  # what they are is in gaussians/frames.py

# On fields that say how the work is done, not what comes out: a run goes on where it stopped when they change.
SAME_RESULT = {"same_result": True}

# What each profile uses for the stages that have engines. `full` lifts with `native` rather than the official package:
# the same checkpoints, nothing to compile, less memory; --objects-engine sam3d-objects chooses the package.
PROFILES = {
    "full": {"phrases": "vllm", "masks": "sam3", "objects": "native"},
    "embedded": {"phrases": "embedded", "masks": "embedded", "objects": "embedded"},
}


@dataclass(frozen=True)
class PhotoOptions:
    """How a photo is opened."""

    max_side_px: int = 4096  # larger photos are worked on at this size


@dataclass(frozen=True)
class PhraseOptions:
    """The phrases stage."""

    engine: str = "embedded"
    max_phrases: int = 12
    phrases: tuple[str, ...] = ()  # engine "given": the user's own list
    phrases_file: Path | None = None  # engine "given": .txt with one phrase a line, or .json
    # Engines "vllm" and "openai": a vision-language model.
    model: str = "Qwen/Qwen3-VL-8B-Thinking"  # hub id or folder
    system_prompt: Path | None = None  # a file instead of vlm/prompt.md
    include_surfaces: bool = False  # walls, floors and the scene count as objects
    sent_side_px: int = 1280  # longer side of the photo as the model sees it
    thinking_tokens: int = 2048  # budget; 0 asks for no thinking
    max_tokens: int = 4096  # of a whole answer, thinking included
    request_timeout_s: float = field(default=180.0, metadata=SAME_RESULT)  # each of the two tries
    # Engine "openai" alone.
    base_url: str = ""
    api_key_env: str = field(default="OPENAI_API_KEY", metadata=SAME_RESULT)  # variable that holds the key
    # Engine "vllm" alone.
    gpus: str = field(default="", metadata=SAME_RESULT)  # ids, separated by commas; "": what is there
    tensor_parallel: int | None = field(default=None, metadata=SAME_RESULT)  # None: as few cards as hold the model
    leave_free_gib: float = field(default=0.0, metadata=SAME_RESULT)  # of each card, for others
    port: int = field(default=0, metadata=SAME_RESULT)  # 0: a free one
    start_timeout_s: float = field(default=1800.0, metadata=SAME_RESULT)  # a first start also downloads the model
    keep_server: bool = field(default=False, metadata=SAME_RESULT)
    vllm_command: str = field(default="vllm", metadata=SAME_RESULT)  # on PATH, or a path
    vllm_args: str = ""  # for `vllm serve`, quoted as in a shell; they win over ours
    server_log: Path = field(default=Path("vllm.log"), metadata=SAME_RESULT)


@dataclass(frozen=True)
class MaskOptions:
    """The masks stage."""

    engine: str = "embedded"
    score_threshold: float = 0.0  # masks scored below are dropped, with the reason kept
    min_area_percent: float = 0.15  # of the photo; smaller masks are dropped
    duplicate_iou: float = 0.6  # two kept masks never overlap more than this
    max_objects: int = 12
    border_filter: bool = True  # drop background and what lies mostly outside the photo
    masks_dir: Path | None = None  # engine "given": a folder of masks or RGBA cut-outs
    # Engines "sam3" and "sam3-official" alone.
    phrase_thresholds: tuple[tuple[str, float], ...] = ()  # (phrase, score threshold) instead of score_threshold
    boxes: tuple[tuple[float, ...], ...] = ()  # x0, y0, x1, y1 px of the photo's file: one object each, no phrases
    points: tuple[tuple[float, ...], ...] = ()  # x, y px of the photo's file: one object each, no phrases
    sam3: str = "facebook/sam3"  # folder or hub repository of the checkpoint
    device: str = "auto"
    precision: str = "auto"
    acceleration: str = "auto"


SAM3_ENGINES = ("sam3", "sam3-official")
SAM3_SCORE_THRESHOLD = 0.5  # Meta's own
PRECISIONS = ("auto", "fp32", "tf32", "bf16")  # auto: bf16 on CUDA, else fp32
ACCELERATIONS = ("auto", "graph", "compile", "plain")  # auto: a CUDA graph on CUDA, else plain

# What each preset of engine "native" means is in engines/objects_native.py.
PRESETS = ("normal", "draft", "quality")
DTYPES = ("auto", "fp16", "bf16", "fp32")
DEVICES = ("auto", "cuda", "cpu", "mps")
GAUSSIANS_PER_VOXEL = (4, 32)


@dataclass(frozen=True)
class ObjectOptions:
    """The objects stage."""

    engine: str = "embedded"
    seed: int = 0
    fov_deg: float | None = None  # along the longer side, when EXIF tells no focal length; None: a usual one (photo.py)
    pitch_deg: float | None = None  # engine "embedded": how far the camera looks below the horizon; None: estimated
    # Engine "native" alone; None is the preset's or the checkpoint's own.
    # What lies there counts, not where: where the official package keeps them; MoGe's model.pt when it is elsewhere.
    checkpoints: Path = field(default=Path("sam-3d-objects/checkpoints/hf"), metadata=SAME_RESULT)
    moge: Path | None = field(default=None, metadata=SAME_RESULT)
    preset: str = "normal"
    steps: int | None = None  # of the first stage (shape and pose)
    slat_steps: int | None = None  # of the second (one latent per voxel)
    gaussians_per_voxel: int | None = None
    depth: Path | None = None  # metric depth of the photo, instead of MoGe
    intrinsics: str | None = None  # "fx,fy,cx,cy" in pixels or a file; goes with depth
    dtype: str = "auto"
    device: str = field(default="auto", metadata=SAME_RESULT)
    vram_gib: float | None = field(default=None, metadata=SAME_RESULT)


@dataclass(frozen=True)
class SceneOptions:
    """The scene stage: geometry, pictures, report."""

    turntable: str = "webp"  # webp, gif or none
    report: bool = True
