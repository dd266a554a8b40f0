"""The options of all stages and engines: default, help and limits of each, in one place.

How they are declared is in option_flags.py.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam3d_gs.errors import UsageError
from sam3d_gs.option_flags import EngineOptions, option

STAGES = ("phrases", "masks", "objects", "scene")
STAGES_WITH_ENGINES = STAGES[:-1]  # the scene stage is plain geometry
PROFILES = ("embedded", "full")  # their engines are in engines/registry.py

EXPORT_FORMATS = ("spz", "compressed.ply", "ply")
EXPORT_SPZ_VERSIONS = (2, 3)
EXPORT_SPZ_VERSION = 3  # older readers take 2 only
EXPORT_FRAMES = ("opencv", "opengl", "y-up", "z-up", "ros")  # defined in gaussians/frames.py
TURNTABLES = ("webp", "gif", "none")

RUNS_DIR = Path("outputs", "master_with_vllm")  # in the workspace: one folder per photo

PRESETS = ("normal", "draft", "quality")  # defined in sam3d_torch/presets.py
DTYPES = ("auto", "fp16", "bf16", "fp32")
DEVICES = ("auto", "cuda", "cpu", "mps")
GAUSSIANS_PER_VOXEL = (4, 32)
PRECISIONS = ("auto", "fp32", "tf32", "bf16")  # auto: bf16 on CUDA, else fp32
ACCELERATIONS = ("auto", "graph", "compile", "plain")  # auto: a CUDA graph on CUDA, else plain

INPUTS_PANEL, RESULTS_PANEL = "Your own input", "Results"

# ---- photo and scene -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PhotoOptions:
    """How photos are opened."""

    max_side_px: int = 4096  # larger photos are scaled down to this longer side

    def check(self) -> None:
        """Raises UsageError for a size that nothing can be seen at."""
        if self.max_side_px < 16:
            raise UsageError(f"--max-side-px is {self.max_side_px}. Expected at least 16.")


@dataclass(frozen=True)
class SceneOptions:
    """The scene stage's pictures and report."""

    turntable: str = "webp"  # one of TURNTABLES
    report: bool = True

    def check(self) -> None:
        """Raises UsageError for an unknown turntable."""
        if self.turntable not in TURNTABLES:
            raise UsageError(f"Unknown --turntable {self.turntable!r}. Expected {' or '.join(TURNTABLES)}.")


# ---- phrases -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PhraseOptions(EngineOptions):
    """Engines that find phrases themselves."""

    max_phrases: int = option(12, "Find at most this many phrases.", min=1)


@dataclass(frozen=True)
class GivenPhraseOptions(EngineOptions):
    """Engine `given`: the user's own list."""

    phrases: tuple[str, ...] = option(
        (), "Your own phrase; repeat the option for more.", "--phrases", panel=INPUTS_PANEL
    )
    phrases_file: Path | None = option(
        None,
        "Your own phrases: .txt with one per line, or .json.",
        panel=INPUTS_PANEL,
        content="file",
        same_result=True,
    )

    def check(self) -> None:
        super().check()
        if not self.phrases and self.phrases_file is None:
            raise UsageError("Engine 'given' of phrases needs --phrases or --phrases-file.")


@dataclass(frozen=True)
class VlmOptions(PhraseOptions):
    """Engines that ask a vision-language model."""

    model: str = option("Qwen/Qwen3-VL-8B-Thinking", "Hub id or folder of the model.", envvar="SAM3D_GS_VLM_MODEL")
    system_prompt: Path | None = option(
        None,
        "Your own system prompt: a text file; {max_phrases} in it is replaced.",
        content="file",
        same_result=True,
    )
    include_surfaces: bool = option(False, "Keep phrases for walls, floors and the scene.")
    sent_side_px: int = option(1280, "Longer side of the photo sent to the model, in pixels.", "--sent-side-px", min=64)
    thinking_tokens: int = option(2048, "Thinking budget in tokens; 0 turns thinking off.", min=0)
    max_tokens: int = option(4096, "Longest answer, thinking included, in tokens.", min=64)
    request_timeout_s: float = option(
        180.0, "Timeout for each of the two answers, in seconds.", min=1, same_result=True
    )


@dataclass(frozen=True)
class OpenAIOptions(VlmOptions):
    """Engine `openai`: a server that is already running."""

    base_url: str = option(
        "", "URL of the server, usually ending in /v1.", envvar="SAM3D_GS_VLM_BASE_URL", may_hold_key=True
    )
    api_key_env: str = option(
        "OPENAI_API_KEY",
        'Environment variable with the server\'s API key, if it needs one; "" sends none.',
        same_result=True,
        may_hold_key=True,
    )
    key_over_http: bool = option(
        False, "Send the API key also by http to another machine, where others can read it.", same_result=True
    )

    def check(self) -> None:
        super().check()
        if not self.base_url:
            raise UsageError("Engine 'openai' of phrases needs --base-url, e.g. http://127.0.0.1:8000/v1.")


@dataclass(frozen=True)
class VllmOptions(VlmOptions):
    """Engine `vllm`: a server that this program starts, and stops at the end of the stage."""

    gpus: str = option(
        "",
        "Ids of the GPUs to use, e.g. 0,1. Default: those in CUDA_VISIBLE_DEVICES, or all.",
        same_result=True,
    )
    tensor_parallel: int | None = option(
        None, "Split the model over this many GPUs. Default: as few as can hold it.", min=1, same_result=True
    )
    leave_free_gib: float = option(0.0, "Leave this much memory free on each GPU, in GiB.", min=0, same_result=True)
    port: int = option(
        0, "Port on this machine; 0: any free port.", min=0, max=65535, envvar="SAM3D_GS_VLM_PORT", same_result=True
    )
    start_timeout_s: float = option(  # the first start also downloads the model
        1800.0, "Timeout for the start of the server, in seconds.", min=1, same_result=True
    )
    keep_server: bool = option(False, "Leave the server running, and print how to use and stop it.", same_result=True)
    vllm_command: str = option(
        "vllm", "The vLLM program: a name on PATH or a path.", envvar="SAM3D_GS_VLLM_COMMAND", same_result=True
    )
    vllm_args: str = option(  # override ours
        "",
        "Additional arguments for `vllm serve`, quoted as in a shell.",
        envvar="SAM3D_GS_VLLM_ARGS",
        may_hold_key=True,
    )
    server_log: Path = dataclasses.field(default=RUNS_DIR / "logs" / "vllm.log", metadata={"same_result": True})

    def resolved(self, workspace: Path) -> VllmOptions:
        return dataclasses.replace(super().resolved(workspace), server_log=(workspace / self.server_log).absolute())


# ---- masks ---------------------------------------------------------------------------------------------------------


def parse_numbers(flag: str, text: str, expected: str, example: str) -> tuple[float, ...]:
    """Comma-separated numbers, as many as in `expected`, e.g. "x,y". Raises UsageError, which shows the `example`."""
    count = expected.count(",") + 1
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count or not all(abs(value) < 1e6 for value in values):
        raise UsageError(f"{flag} {text!r} is not {expected} in pixels, e.g. {flag} {example}.")
    return values


def _parse_box(text: str) -> tuple[float, ...]:
    return parse_numbers("--box", text, "x0,y0,x1,y1", "10,20,300,400")


def _parse_point(text: str) -> tuple[float, ...]:
    return parse_numbers("--point", text, "x,y", "150,200")


def _check_corners(box: tuple[float, ...]) -> None:
    x, y, right, below = box
    if x < right and y < below:
        return
    message = f"--box {_joined(box)}: the second corner must lie right of and below the first."
    if right > 0 and below > 0:
        corners = _joined((x, y, x + right, y + below))
        message += f" If it is x,y,width,height as in COCO, its corners are --box {corners}."
    raise UsageError(message)


def _joined(values: Any) -> str:
    """As on the command line."""
    if not isinstance(values, (tuple, list)):
        return str(values)
    return ",".join(f"{value:.8g}" if isinstance(value, (int, float)) else str(value) for value in values)


def _parse_phrase_threshold(text: str) -> tuple[str, float]:
    phrase, equals, score = text.rpartition("=")
    try:
        value = float(score)
    except ValueError:
        value = -1.0
    if not (equals and phrase.strip() and 0 <= value <= 1):
        raise UsageError(
            f'--phrase-threshold {text!r} is not PHRASE=SCORE with a score from 0 to 1, e.g. "red cup=0.3".'
        )
    return phrase.strip(), value


_SCORE_THRESHOLD_HELP = "Drop masks with a lower score."


@dataclass(frozen=True)
class MaskOptions(EngineOptions):
    """Engines that find masks themselves: which masks to keep."""

    max_objects: int = option(12, "Keep at most this many masks.", min=1)
    score_threshold: float = option(0.0, _SCORE_THRESHOLD_HELP, min=0, max=1)
    min_area_percent: float = option(
        0.15, "Drop masks smaller than this percentage of the photo.", "--min-area-percent", min=0, max=100
    )
    border_filter: bool = option(True, "Drop background, and objects that are mostly outside the photo.")
    duplicate_iou: float = 0.6  # highest IoU of two kept masks

    @property
    def needs_phrases(self) -> bool:
        """Whether the phrases stage has to run first."""
        return True


@dataclass(frozen=True)
class GivenMaskOptions(EngineOptions):
    """Engine `given`: the user's own masks."""

    masks_dir: Path | None = option(
        None,
        "Your own masks: a folder or a file of masks, cut-outs, label maps, COCO, labelme or NumPy.",
        "--masks",
        panel=INPUTS_PANEL,
        content="path",
        same_result=True,
    )

    @property
    def needs_phrases(self) -> bool:
        """False: the file names name the objects."""
        return False

    def check(self) -> None:
        super().check()
        if self.masks_dir is None:
            raise UsageError("Engine 'given' of masks needs --masks DIR.")


@dataclass(frozen=True)
class Sam3Options(MaskOptions):
    """Engines `sam3` and `sam3-official`."""

    score_threshold: float = option(0.5, _SCORE_THRESHOLD_HELP, min=0, max=1)  # Meta's default
    boxes: tuple[tuple[float, ...], ...] = option(
        (),
        "x0,y0,x1,y1 in pixels of the photo: mask the object in this box, without phrases.",
        "--box",
        parse=_parse_box,
        one_photo=True,
    )
    points: tuple[tuple[float, ...], ...] = option(
        (),
        "x,y in pixels of the photo: mask the object at this point, without phrases.",
        "--point",
        parse=_parse_point,
        one_photo=True,
    )
    phrase_thresholds: tuple[tuple[str, float], ...] = option(
        (),
        'PHRASE=SCORE: the score threshold of one phrase, e.g. "red cup=0.3".',
        "--phrase-threshold",
        parse=_parse_phrase_threshold,
    )
    sam3: str = option("facebook/sam3", "Checkpoint: a folder or a hub repository.", "--sam3")
    device: str = option("auto", f"{', '.join(DEVICES)}.", "--sam3-device", "--device", choices=DEVICES)
    precision: str = option(
        "auto", f"{', '.join(PRECISIONS)}; auto is bf16 on CUDA, else fp32.", "--sam3-precision", choices=PRECISIONS
    )
    acceleration: str = option(
        "auto",
        f"{', '.join(ACCELERATIONS)}; auto is a CUDA graph on CUDA, else plain.",
        "--sam3-acceleration",
        choices=ACCELERATIONS,
    )

    @property
    def needs_phrases(self) -> bool:
        """False with boxes or points, which select an object without naming it."""
        return not self.boxes and not self.points

    def check(self) -> None:
        super().check()
        for box in self.boxes:  # parsed again: those given in Python were not
            _check_corners(_parse_box(_joined(box)))
        for point in self.points:
            _parse_point(_joined(point))

    def resolved(self, workspace: Path) -> Sam3Options:
        here = Path(self.sam3)
        sam3 = str(here.absolute()) if here.exists() else self.sam3
        return dataclasses.replace(super().resolved(workspace), sam3=sam3)


# ---- objects -------------------------------------------------------------------------------------------------------


def _fov_option() -> Any:
    return option(
        None,
        "Field of view along the longer side, in degrees, for photos without a focal length in EXIF. Default: 55, or "
        "30 with engine embedded for objects on a plain background.",
        min=5,
        max=150,
    )


@dataclass(frozen=True)
class EmbeddedObjectOptions(EngineOptions):
    """Engine `embedded`."""

    seed: int = option(0, "Random seed.", min=0)
    fov_deg: float | None = _fov_option()
    pitch_deg: float | None = option(
        None, "Angle of the camera below the horizon, in degrees. Default: estimated.", min=-45, max=85
    )


@dataclass(frozen=True)
class Sam3dOptions(EngineOptions):
    """Engine `sam3d-objects`, and options that `native` shares with it. None: as in the preset or the checkpoint."""

    seed: int = option(0, "Random seed.", min=0)
    checkpoints: Path = option(
        Path("sam-3d-objects/checkpoints/hf"),  # where the official package keeps them
        "Folder of the checkpoints, with pipeline.yaml; a relative path may also be relative to the workspace.",
        content="weights",
        same_result=True,
        below_workspace=True,
    )
    preset: str = option(
        "normal", "draft (few steps), normal (as in the checkpoint) or quality (twice as many).", choices=PRESETS
    )
    steps: int | None = option(None, "Sampling steps for shape and pose. Default: the preset's.", min=1)
    slat_steps: int | None = option(None, "Sampling steps for the appearance. Default: the preset's.", min=1)
    gaussians_per_voxel: int | None = option(None, "4 or 32. Default: the preset's.", choices=GAUSSIANS_PER_VOXEL)


_DEPTH_UNITS = {"m": 1.0, "cm": 100.0, "mm": 1000.0}


def depth_units_per_metre(text: str) -> float:
    """How many units of a depth map make a metre: 1000 of "mm", 5000 of "5000". Raises UsageError."""
    word = str(text).strip().casefold()
    try:
        count = _DEPTH_UNITS.get(word) or float(word)
    except ValueError:
        count = math.nan
    if 1 <= count <= 1e7:
        return count
    hint = f" Is it metres per unit? Then give {1 / count:g}." if 1e-7 <= count < 1 else ""
    raise UsageError(f"--depth-unit {text!r} is not m, cm, mm, or the number of units per metre, e.g. 5000.{hint}")


@dataclass(frozen=True)
class NativeOptions(Sam3dOptions):
    """Engine `native`."""

    moge: Path | None = option(
        None, "MoGe's model.pt, if it is not next to the checkpoints.", content="weights", same_result=True
    )
    depth: Path | None = option(
        None,
        "Your own depth map instead of MoGe's: .npy, .npz, .png (16 bit), .tif, .pfm or .exr.",
        content="file",
        one_photo=True,
        same_result=True,
    )
    depth_unit: str | None = option(
        None,
        "What --depth counts: m, cm, mm, or the number of units per metre, e.g. 5000. Default: mm for integers, m for "
        "floating-point numbers.",
    )
    intrinsics: str | None = option(
        None,
        "Camera of --depth: fx,fy,cx,cy in pixels, or a file: a 3 x 3 matrix K, Open3D, RealSense, ROS, COLMAP, "
        "transforms.json.",
        content="file",
    )
    fov_deg: float | None = _fov_option()
    dtype: str = option("auto", "auto, fp16, bf16 or fp32.", choices=DTYPES)
    device: str = option("auto", "auto, cuda, cpu or mps.", choices=DEVICES, same_result=True)
    vram_gib: float | None = option(
        None, "Use at most this much GPU memory, in GiB, by loading the networks in turn.", min=0.5, same_result=True
    )

    def check(self) -> None:
        super().check()
        if self.intrinsics and not self.depth:
            raise UsageError("--intrinsics needs --depth, else MoGe estimates the camera. Leave it out or add --depth.")
        if self.depth_unit is not None:
            depth_units_per_metre(self.depth_unit)
            if not self.depth:
                raise UsageError("--depth-unit needs --depth. Leave it out or add --depth.")
        if self.moge and self.depth:
            raise UsageError("--depth replaces MoGe. Leave out --moge or --depth.")
        if self.fov_deg is not None and not self.depth:
            raise UsageError("--fov needs --depth, else MoGe estimates the camera. Leave it out or add --depth.")
        if self.fov_deg is not None and self.intrinsics:
            raise UsageError("--intrinsics and --fov both define the camera. Leave one of them out.")
