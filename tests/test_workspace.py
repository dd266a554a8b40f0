from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam3d_gs import manifest as manifests
from sam3d_gs.manifest import Manifest
from sam3d_gs.workspace import Workspace, folder_name, object_id, slug


def _own(root: Path, name: str, sha256: str) -> None:
    manifests.save(Workspace(root, name).manifest, Manifest(photo={"name": name, "sha256": sha256}))


def test_paths_are_the_known_ones(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, "kitchen")
    assert workspace.relative(workspace.manifest) == "outputs/master_with_vllm/kitchen/manifest.json"
    assert workspace.relative(workspace.mask_png("00-cup-0")) == "outputs/master_with_vllm/masks/kitchen/00-cup-0.png"
    assert (
        workspace.relative(workspace.object_pt("00-cup-0"))
        == "sam-3d-objects/outputs/torch_save_pt/kitchen/00-cup-0.pt"
    )
    assert workspace.relative(workspace.single_ply("0")) == "sam-3d-objects/gaussians/single/kitchen/0.ply"
    assert workspace.relative(workspace.scene_ply) == "sam-3d-objects/gaussians/multi/kitchen.ply"


def test_another_photo_of_the_same_name_gets_its_own_folder(tmp_path: Path) -> None:
    assert folder_name(tmp_path, "kitchen", "a" * 64) == "kitchen"
    _own(tmp_path, "kitchen", "a" * 64)
    assert folder_name(tmp_path, "kitchen", "a" * 64) == "kitchen"
    assert folder_name(tmp_path, "kitchen", "b" * 64) == "kitchen-bbbbbbbb"


def test_a_damaged_manifest_does_not_hide_the_photo(tmp_path: Path) -> None:
    _own(tmp_path, "kitchen", "a" * 64)
    Workspace(tmp_path, "kitchen").manifest.write_text("{")
    assert folder_name(tmp_path, "kitchen", "a" * 64) == "kitchen"


@pytest.mark.parametrize("stem", ["masks", "Masks", "kitchen.compressed", "kitchen.Z-up"])
def test_names_that_mean_something_else_get_a_suffix(tmp_path: Path, stem: str) -> None:
    assert folder_name(tmp_path, stem, "c" * 64) == f"{stem}-cccccccc"


@given(stem=st.text(max_size=300), sha256=st.text("0123456789abcdef", min_size=64, max_size=64))
def test_any_stem_is_one_safe_folder_below_the_root(stem: str, sha256: str) -> None:
    root = Path("/nowhere")
    name = folder_name(root, stem, sha256)
    assert name not in ("", ".", "..", "masks")
    assert "/" not in name
    assert "\\" not in name
    assert "\0" not in name
    assert not name.startswith("-")
    assert len(name.encode("utf-8", "replace")) <= 200
    assert Workspace(root, name).run_dir.parent == Workspace(root, "x").run_dir.parent


@pytest.mark.slow
@given(st.text(max_size=200))
def test_slugs_are_safe(phrase: str) -> None:
    result = slug(phrase)
    assert result
    assert set(result) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert len(result) <= 40


def test_object_ids() -> None:
    assert object_id(0, "wooden chair", 0) == "00-wooden-chair-0"
    assert object_id(3, "Café-Stühle!", 2) == "03-cafe-stuhle-2"
    assert object_id(1, "../../etc/passwd", 0) == "01-etc-passwd-0"
    assert object_id(2, "красная чашка", 0) == "02-object-0"
