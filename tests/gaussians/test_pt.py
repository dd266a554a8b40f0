"""The .pt files: plain tensors any PyTorch opens, the same object back, one clear line for every broken file."""

from __future__ import annotations

import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_gs.errors import BadInputError, ObjectError, Sam3dGsError
from sam3d_gs.gaussians import pt
from sam3d_gs.types import Gaussians, PlacedObject, Pose
from tests.gaussians.helpers import FIELDS, K, assert_same, poses, random_gaussians, random_object

torch = pytest.importorskip("torch")

KEYS = {
    *FIELDS,
    *("schema", "rotation", "translation", "scale", "intrinsics", "image_size", "object_id", "phrase", "scores"),
    *("seed", "engine", "scale_source", "versions"),
}


@settings(deadline=None, max_examples=20)
@given(
    poses(), st.integers(1, 60), st.text(max_size=20), st.dictionaries(st.text(max_size=5), st.floats(0, 1), max_size=2)
)
def test_the_same_object_back(
    tmp_path_factory: pytest.TempPathFactory, pose: Pose, n: int, phrase: str, scores: dict[str, float]
) -> None:
    path = tmp_path_factory.mktemp("pt") / "a.pt"
    made = replace(random_object(n=n), pose=pose, phrase=phrase, scores=scores)
    pt.write_pt(path, made)
    first = path.read_bytes()
    read = pt.read_pt(path)
    assert_same(read.gaussians, made.gaussians)
    np.testing.assert_array_equal(read.pose.quat_wxyz, pose.quat_wxyz)
    np.testing.assert_array_equal(read.pose.translation, pose.translation)
    np.testing.assert_array_equal(read.K, K)
    assert read.pose.scale == pose.scale
    for name in ("object_id", "phrase", "image_size", "scores", "seed", "engine", "scale_source", "versions"):
        assert getattr(read, name) == getattr(made, name), name
    pt.write_pt(path, read)  # in place of the file that its arrays are mapped from
    assert path.read_bytes() == first


def test_what_pytorch_sees_without_us(tmp_path: Path) -> None:
    made = random_object(n=5)
    pt.write_pt(tmp_path / "a.pt", made)
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    assert set(content) == KEYS
    shapes = {key: tuple(value.shape) for key, value in content.items() if isinstance(value, torch.Tensor)}
    assert shapes == {
        "means": (5, 3),
        "quats": (5, 4),
        "log_scales": (5, 3),
        "opacity_logits": (5,),
        "sh0": (5, 3),
        "rotation": (4,),
        "translation": (3,),
        "scale": (),
        "intrinsics": (3, 3),
    }
    assert content["schema"] == 1
    assert content["image_size"] == [641, 480]
    np.testing.assert_array_equal(content["means"].numpy(), made.gaussians.means)


def test_a_part_of_an_array_is_written_alone(tmp_path: Path) -> None:
    """torch.save would store the whole array that a view belongs to."""
    large = random_gaussians(10_000)
    few = Gaussians(*(getattr(large, name)[::1000] for name in FIELDS))
    pt.write_pt(tmp_path / "a.pt", replace(random_object(), gaussians=few))
    assert (tmp_path / "a.pt").stat().st_size < 10_000
    assert_same(pt.read_pt(tmp_path / "a.pt").gaussians, few)


def test_the_header_alone(tmp_path: Path) -> None:
    made = random_object("03-spoon-1", n=12)
    pt.write_pt(tmp_path / "a.pt", made)
    header = pt.open_pt(tmp_path / "a.pt").header
    assert (header.count, header.object_id, header.image_size) == (12, "03-spoon-1", (641, 480))
    np.testing.assert_array_equal(header.pose.translation, made.pose.translation)
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()  # its file is let go


def test_other_float_types_and_long_quaternions_are_converted(tmp_path: Path) -> None:
    made = random_object(n=6)
    path = changed(tmp_path / "a.pt", means=lambda t: t.double(), sh0=lambda t: t.half(), quats=lambda t: 3 * t)
    read = pt.read_pt(path).gaussians
    assert {getattr(read, name).dtype for name in FIELDS} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(read.means, made.gaussians.means)
    np.testing.assert_allclose(read.quats, made.gaussians.quats, atol=2e-7)
    np.testing.assert_allclose(read.sh0, made.gaussians.sh0, atol=1e-3)  # half precision


def changed(path: Path, **changes: Callable[[Any], Any] | None) -> Path:
    """A good .pt file of six Gaussians with some values changed, or removed by None."""
    pt.write_pt(path, random_object(n=6))
    content = torch.load(path, weights_only=True)
    for key, change in changes.items():
        if change is None:
            del content[key]
        else:
            content[key] = change(content.get(key))
    torch.save(content, path)
    return path


def with_nan(tensor: Any) -> Any:
    tensor.view(-1)[:2] = float("nan")
    return tensor


def raw(change: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.write_bytes(change(changed(path).read_bytes()))
        return path

    return make


def saved(value: Callable[[], Any], **options: Any) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        torch.save(value(), path, **options)
        return path

    return make


def edit(**changes: Callable[[Any], Any] | None) -> Callable[[Path], Path]:
    return lambda path: changed(path, **changes)


class Evil:
    """What a pickle may run when it is loaded."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("pwned",)


def pickled(path: Path) -> Path:
    path.write_bytes(pickle.dumps({"means": Evil()}))
    return path


BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda path: path, "No .pt file"),
    "a folder": (lambda path: path.mkdir() or path, "No .pt file"),
    "empty": (raw(lambda data: b""), "cannot load"),
    "cut in the middle": (raw(lambda data: data[: len(data) // 2]), "cannot load"),
    "cut at the end": (raw(lambda data: data[:-5]), "cannot load"),
    "another kind of file": (raw(lambda data: b"ply\n" * 300), "cannot load"),
    "a bare pickle": (pickled, "cannot load"),
    "a pickled class": (saved(lambda: {"means": Evil()}), "cannot load"),
    "a whole object": (saved(random_object), "cannot load"),
    "the old container": (
        saved(lambda: {"means": torch.zeros(2, 3)}, _use_new_zipfile_serialization=False),
        "cannot load",
    ),
    "a list": (saved(lambda: [1, 2]), "it holds a list"),
    "a tensor": (saved(lambda: torch.zeros(3)), "it holds a Tensor"),
    "another dict": (saved(lambda: {"weights": torch.zeros(3)}), "it has no schema"),
    "a later schema": (edit(schema=lambda _: 2), "its schema is 2"),
    **{f"no {key}": (edit(**{key: None}), f"it has no {key}") for key in sorted(KEYS)},
    "means of another shape": (edit(means=lambda t: t[:, :2].clone()), "means has shape (6, 2)"),
    "flat means": (edit(means=lambda t: t.view(-1)), "Gaussians.means has shape (18,)"),
    "one colour too few": (edit(sh0=lambda t: t[:-1].clone()), "sh0 has shape (5, 3)"),
    "no Gaussians": (edit(**{name: lambda t: t[:0].clone() for name in FIELDS}), "there are no Gaussians"),
    "means are a list": (edit(means=lambda t: t.tolist()), "means is a list"),
    "integers": (edit(means=lambda t: t.long()), "means is not a dense tensor of real numbers"),
    "complex": (edit(means=lambda t: t.to(torch.complex64)), "means is not a dense tensor of real numbers"),
    "sparse": (edit(means=lambda t: t.to_sparse()), "means is not a dense tensor of real numbers"),
    "larger than its bytes": (edit(sh0=lambda t: torch.zeros(1, 1).expand(10**12, 3)), "sh0 is not a dense tensor"),
    "NaN": (edit(opacity_logits=with_nan), "opacity_logits has NaN or infinite values: 2 in opacity"),
    "zero quaternions": (edit(quats=lambda t: t * 0), "6 of 6 quaternions are zero"),
    "rotation of length 2": (edit(rotation=lambda t: 2 * t), "not a rotation with a positive scale"),
    "scale 0": (edit(scale=lambda t: 0 * t), "not a rotation with a positive scale"),
    "NaN translation": (edit(translation=with_nan), "NaN or infinite"),
    "rotation matrix": (edit(rotation=lambda t: torch.eye(3)), "rotation has shape (3, 3)"),
    "no focal length": (edit(intrinsics=lambda t: 0 * t), "not a pinhole matrix"),
    "image size of words": (edit(image_size=lambda _: ["wide", "high"]), "image_size is"),
    "negative image size": (edit(image_size=lambda _: [-4, 3]), "image_size is"),
    "a score that is a word": (edit(scores=lambda _: {"mask": "good"}), "scores are not all numbers"),
    "a score that is a list": (edit(scores=lambda _: {"mask": [1]}), "scores are not all numbers"),
    "a score that is NaN": (edit(scores=lambda _: {"mask": float("nan")}), "scores are not all numbers"),
    "an id that leaves the folder": (edit(object_id=lambda _: "../../etc/passwd"), "not a safe file name"),
    "an id with a line break": (edit(object_id=lambda _: "00-cup-0\n"), "not a safe file name"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_get_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(tmp_path)
    make, said = BROKEN[case]
    path = make(tmp_path / "00-cup-0.pt")
    with pytest.raises(BadInputError) as caught:
        pt.read_pt(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "pwned").exists()


@settings(deadline=None, max_examples=60)
@given(st.floats(0, 1), st.binary(min_size=1, max_size=30))
def test_random_damage_never_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, at: float, put: bytes
) -> None:
    """Either an object comes out (damage to a value cannot be told from a value), or BadInputError."""
    path = changed(tmp_path_factory.mktemp("damage") / "a.pt")
    data = path.read_bytes()
    where = int(at * len(data))
    path.write_bytes(data[:where] + put + data[where + len(put) :])
    try:
        assert len(pt.read_pt(path).gaussians)
    except BadInputError as error:
        said = str(error)
    else:
        said = str(path)
    assert str(path) in said


@pytest.mark.parametrize("broken", ["means", "pose"])
def test_unusable_objects_are_not_written(tmp_path: Path, broken: str) -> None:
    made: PlacedObject = random_object(n=4)
    if broken == "means":
        made.gaussians.means[1, 1] = np.nan
    else:
        made = replace(made, pose=replace(made.pose, scale=float("inf")))
    with pytest.raises(ObjectError, match="00-red-cup-0 was not written"):
        pt.write_pt(tmp_path / "a.pt", made)
    assert not os.listdir(tmp_path)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pt"
    pt.write_pt(path, random_object(n=4))
    before = path.read_bytes()

    def half(content: object, stream: Any) -> None:
        stream.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        pt.write_pt(path, random_object(n=9))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.pt"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """A limit on the size of files fails the write in the same way as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    try:
        with pytest.raises(Sam3dGsError, match=f"Cannot write {tmp_path / 'a.pt'}: File too large"):
            pt.write_pt(tmp_path / "a.pt", random_object(n=20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not os.listdir(tmp_path)


def test_without_pytorch_the_cure_is_named() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\nfrom sam3d_gs.gaussians.pt import read_pt\n"
        "from sam3d_gs.errors import MissingPackageError\n"
        "try:\n    read_pt(Path('a.pt'))\nexcept MissingPackageError as error:\n    print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "pip install 'sam3d_gs[embedded]'" in said
