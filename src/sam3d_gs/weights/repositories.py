"""The weights of the full profile: repositories on the hub, the files needed of each, and their place on disk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from sam3d_gs.errors import UsageError
from sam3d_gs.options import Sam3dOptions

# No engine reads these.
_NEVER = (".git*", "*.md", "*.png", "*.jpg", "*.jpeg", "*.gif", "*.mp4", "*.pdf")


@dataclass(frozen=True)
class Repository:
    """One repository of models. File names here are the hub's, `prefix` included."""

    name: str  # what a user types
    id: str  # owner/name on the hub
    what: str
    licence: str = "see its page"
    gated: bool = False  # its owners must grant access first
    gib: float | None = None  # approximate size of the files wanted
    essential: tuple[str, ...] = (
        "config.json",
    )  # without these it counts as missing; access is checked with the first
    extra: tuple[str, ...] = ()  # patterns: the full profile does not need these, so only `--all` takes them
    prefix: str = ""  # only files below it; dropped from the names in a folder
    folder: Path | None = None  # where the files go; None: the hub's cache
    sizes: Mapping[str, int] = field(
        default_factory=dict, hash=False
    )  # bytes, of the release we know, for use without the hub

    def wants(self, name: str, everything: bool = False) -> bool:
        """Whether to download a file of the repository."""
        parts = name.lower().split("/")
        if not name.startswith(self.prefix) or any(fnmatch(parts[-1], pattern) for pattern in _NEVER):
            return False
        if ".git" in parts:  # a folder .git can make git run programs
            return False
        return everything or not any(fnmatch(name, pattern) for pattern in self.extra)


_SAM3D_SIZES = {
    "pipeline.yaml": 3_548,
    "ss_generator.yaml": 5_076,
    "ss_generator.ckpt": 6_690_136_964,
    "slat_generator.yaml": 1_986,
    "slat_generator.ckpt": 4_906_537_684,
    "ss_decoder.yaml": 244,
    "ss_decoder.ckpt": 147_609_242,
    "slat_decoder_gs.yaml": 576,
    "slat_decoder_gs.ckpt": 171_476_155,
    "slat_decoder_gs_4.yaml": 575,
    "slat_decoder_gs_4.ckpt": 170_269_801,
}
_MESH_SIZES = {"slat_decoder_mesh.yaml": 300, "slat_decoder_mesh.ckpt": 363_726_862}


def _below(sizes: Mapping[str, int]) -> dict[str, int]:
    return {f"checkpoints/{name}": size for name, size in sizes.items()}


SAM3_FILES = ("config.json", "model.safetensors", "tokenizer.json")
SAM3D_FILES = tuple(_below(_SAM3D_SIZES))
MESH_DECODER_FILES = tuple(_below(_MESH_SIZES))  # the official package does not start without them

REPOSITORIES = (
    Repository(
        "qwen3-vl",
        "Qwen/Qwen3-VL-8B-Thinking",
        what="phrases: names the objects",
        licence="Apache-2.0",
        gib=16.4,
    ),
    # The hub's commit 3c879f3, as public scripts and copies of it show, has .gitattributes, LICENSE, README.md,
    # config.json, merges.txt, model.safetensors, processor_config.json, sam3.pt, special_tokens_map.json,
    # tokenizer.json, tokenizer_config.json and vocab.json. The package's own loader names config.json and sam3.pt.
    Repository(
        "sam3",
        "facebook/sam3",
        what="masks: finds their pixels",
        licence="SAM License",
        gated=True,
        gib=3.2,
        essential=SAM3_FILES,
        extra=("sam3.pt",),  # engine `sam3-official` reads this one instead of model.safetensors
    ),
    Repository(
        "sam-3d-objects",
        "facebook/sam-3d-objects",
        what="objects: lifts masks to Gaussians",
        licence="SAM License",
        gated=True,
        gib=11.3,
        essential=SAM3D_FILES,
        # The mesh decoder is never run, but engine `sam3d-objects` does not start without it.
        extra=("checkpoints/*encoder*", "checkpoints/*mesh*"),
        prefix="checkpoints/",
        folder=Sam3dOptions.checkpoints,
        sizes=_below(_SAM3D_SIZES | _MESH_SIZES),
    ),
    Repository(
        "moge",
        "Ruicheng/moge-vitl",
        what="objects: depth of the photo",
        licence="MIT",
        gib=1.2,
        essential=("model.pt",),
        sizes={"model.pt": 1_256_823_446},
    ),
)


def find_repository(name: str) -> Repository:
    """The repository of a short name or id; any other owner/name is downloaded whole, into the hub's cache."""
    for repository in REPOSITORIES:
        if name in (repository.name, repository.id):
            return repository
    if _is_id(name):
        return Repository(name, name, what="a model of your own choice")
    known = ", ".join(repository.name for repository in REPOSITORIES)
    raise UsageError(f"Unknown checkpoints {name!r}. Expected {known}, or owner/name of any repository on the hub.")


def _is_id(name: str) -> bool:
    """Whether the hub could have a repository of this name; it becomes part of a path."""
    parts = name.split("/")
    usual = all(re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?", part) for part in parts)
    return len(parts) == 2 and usual and not re.search(r"--|\.\.|\.git$", name)
