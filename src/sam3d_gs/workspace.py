"""The path of every file the program writes, and the names of photos and objects in paths."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from sam3d_gs.errors import BadInputError
from sam3d_gs.manifest import photo_hash
from sam3d_gs.options import EXPORT_FORMATS, EXPORT_FRAMES, RUNS_DIR

SLUG_MAX = 40
_SAM3D = Path("sam-3d-objects")
_RESERVED = {"masks", "logs"}  # folders in RUNS_DIR that are not a photo's, so no photo may have these names
_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\:*?\"<>|]")  # in a file name, on any system
_OBJECT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Workspace:
    """The paths of one photo's files under `root`. Only builds paths; reads and writes nothing."""

    root: Path
    photo: str  # unique per photo: see `folder_name`

    @property
    def run_dir(self) -> Path:
        return self.root / RUNS_DIR / self.photo

    @property
    def manifest(self) -> Path:
        return self.run_dir / "manifest.json"

    @property
    def phrases_json(self) -> Path:
        return self.run_dir / "phrases.json"

    @property
    def answer_json(self) -> Path:
        """The requests to a language model and its answers, verbatim."""
        return self.run_dir / "answer.json"

    @property
    def image_png(self) -> Path:
        """The photo as all stages use it: upright, RGB; masks and K refer to its pixels."""
        return self.run_dir / "image.png"

    @property
    def overlay_png(self) -> Path:
        return self.run_dir / "overlay.png"

    @property
    def report_html(self) -> Path:
        return self.run_dir / "report.html"

    @property
    def masks_dir(self) -> Path:
        return self.root / RUNS_DIR / "masks" / self.photo

    @property
    def masks_json(self) -> Path:
        return self.masks_dir / "masks.json"

    @property
    def dropped_masks_dir(self) -> Path:
        return self.masks_dir / "dropped"

    def mask_png(self, object_id: str) -> Path:
        return self.masks_dir / f"{object_id}.png"

    @property
    def objects_dir(self) -> Path:
        return self.root / _SAM3D / "outputs" / "torch_save_pt" / self.photo

    def object_pt(self, object_id: str) -> Path:
        return self.objects_dir / f"{object_id}.pt"

    @property
    def single_dir(self) -> Path:
        return self.root / _SAM3D / "gaussians" / "single" / self.photo

    def single_ply(self, object_id: str) -> Path:
        """One object in its object frame; its pose is in the scene JSON."""
        return self.single_dir / f"{object_id}.ply"

    def contact_sheet(self, object_id: str) -> Path:
        return self.single_dir / f"{object_id}.png"

    def object_turntable(self, object_id: str) -> Path:
        return self.single_dir / f"{object_id}.webp"

    @property
    def multi_dir(self) -> Path:
        return self.root / _SAM3D / "gaussians" / "multi"

    @property
    def scene_ply(self) -> Path:
        """All objects, in the photo's camera frame."""
        return self.multi_dir / f"{self.photo}.ply"

    @property
    def scene_json(self) -> Path:
        return self.multi_dir / f"{self.photo}.json"

    def turntable(self, suffix: str) -> Path:
        """`suffix`: "webp" or "gif"."""
        return self.multi_dir / f"{self.photo}.{suffix}"

    def export(self, form: str, frame: str = "") -> Path:
        """`form`: one of EXPORT_FORMATS, or a description: "json" of a frame's files, "<format>.json" of one alone.

        `frame`: one of EXPORT_FRAMES, or empty.
        """
        return self.multi_dir / ".".join(part for part in (self.photo, frame, form) if part)

    def exports(self) -> list[Path]:
        """Every path that `sam3d-gs export` may write in `multi_dir`."""
        forms = (*EXPORT_FORMATS, "json", *(f"{form}.json" for form in EXPORT_FORMATS))
        moved = [self.export(form, frame) for frame in EXPORT_FRAMES for form in forms]
        return [self.export(form) for form in EXPORT_FORMATS if form != "ply"] + moved

    @property
    def exports_json(self) -> Path:
        """What `sam3d-gs export` wrote, to tell later whether a user has edited it."""
        return self.run_dir / "exports.json"

    def in_multi_dir(self) -> list[Path]:
        """Every path the photo may have in `multi_dir`, which all photos share."""
        own = [self.scene_ply, self.scene_json, *self.exports()]
        edited = [self.set_aside(path) for path in own]
        return [*own, self.turntable("webp"), self.turntable("gif"), *edited]

    def is_editable(self, path: Path) -> bool:
        """Whether users may edit this file, and later stages use it: phrases, masks, objects and scenes.

        Pictures, pages and logs are not: they are made again whenever something has changed.
        """
        if path.suffix == ".png":
            return self.masks_dir in path.parents
        return path in (self.phrases_json, self.masks_json, self.scene_json) or path.suffix in (".pt", ".ply")

    @staticmethod
    def set_aside(path: Path) -> Path:
        """Where an edited file is kept when a new one replaces it: desk.ply becomes desk.edited.ply."""
        return path.with_name(f"{path.stem}.edited{path.suffix}")

    def folders(self) -> list[Path]:
        """Every folder that is the photo's alone. The run folder is last: its manifest says whose the others are."""
        return [self.dropped_masks_dir, self.masks_dir, self.objects_dir, self.single_dir, self.run_dir]

    def relative(self, path: Path) -> str:
        """`path` relative to the root, with forward slashes, as in the manifest and the scene JSON."""
        return path.relative_to(self.root).as_posix()

    def own_file(self, relative: str, source: Path) -> Path:
        """The file that `source`, a JSON file of the workspace, names by its path relative to the root.

        Such a file may come from anywhere, so the path must be one of this photo's: raises BadInputError, naming
        `source`, for any other.
        """
        path = self.root / relative
        in_a_folder = path.parent in self.folders() and not _UNSAFE.search(path.name)
        if in_a_folder or path in self.in_multi_dir():
            return path
        raise BadInputError(
            f"{source} names {relative!r:.100}, which is not a file of {self.photo!r}. Nothing was read or removed. "
            "Delete it to start over."
        )


def folder_name(root: Path, stem: str, sha256: str) -> str:
    """The photo's name in the workspace: its stem, or <stem>-<hash> if another photo already uses the stem.

    A name belongs to the first photo that used it, as recorded in the manifest in its folder.
    """
    stem = stem.encode("utf-8", "replace").decode()  # file names may contain bytes that are not valid UTF-8
    clean = _UNSAFE.sub("_", unicodedata.normalize("NFC", stem)).strip(". ")
    clean = _shorten(clean.lstrip("-")) or "photo"  # a leading dash would look like an option
    names = [f"{clean}-{sha256[:length]}" for length in (8, 16, 64)]
    for name in names if is_reserved(clean) else [clean, *names]:
        if photo_hash(Workspace(root, name).manifest) in (None, sha256):
            return name
    return names[-1]


def is_reserved(name: str) -> bool:
    """Whether a folder of this name in RUNS_DIR cannot be a photo's: its files would be those of others."""
    described = (f"{frame}.{form}" for frame in EXPORT_FRAMES for form in EXPORT_FORMATS)
    ends = tuple(f".{part}" for part in ("compressed", "edited", *EXPORT_FRAMES, *described))  # those of exports
    return name.casefold() in _RESERVED or name.casefold().endswith(ends)


def _shorten(name: str, limit_bytes: int = 180) -> str:
    """`name` cut to `limit_bytes` of UTF-8: file systems allow 255 bytes, and we add suffixes."""
    return name.encode("utf-8")[:limit_bytes].decode("utf-8", "ignore")


def slug(phrase: str) -> str:
    """A phrase as a safe part of a file name: a-z, 0-9 and single dashes; "object" if nothing remains.

    All text from models must pass through here before it is used in a path.
    """
    plain = unicodedata.normalize("NFKD", phrase).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:SLUG_MAX].strip("-") or "object"


def object_id(phrase_number: int, phrase: str, instance: int) -> str:
    """`<phrase number>-<slug>-<instance>`, e.g. 00-wooden-chair-0."""
    return f"{phrase_number:02d}-{slug(phrase)}-{instance}"


def is_object_id(text: str) -> bool:
    """Whether `text`, from a file, is safe as the name of an object's files."""
    return bool(_OBJECT_ID.fullmatch(text))
