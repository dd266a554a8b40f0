"""Scenes that were cleaned in an editor, and exports that were edited or have another scale."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam3d_gs.assets.scene_export import export_scene
from sam3d_gs.edits import stamp
from sam3d_gs.errors import BadInputError, UsageError
from sam3d_gs.gaussians.merge import concatenated
from sam3d_gs.gaussians.ply import read_ply, write_ply
from sam3d_gs.gaussians.pose import transform
from sam3d_gs.manifest import Manifest, StageRecord, save
from sam3d_gs.report.viewer import from_workspace
from sam3d_gs.scene_files import read_scene
from sam3d_gs.types import Gaussians, Pose
from sam3d_gs.workspace import Workspace
from tests.command_line import sam3d_gs
from tests.toy_scene import BALLS, ball_gaussians, write_workspace

pytest.importorskip("gsply")

IDS = ("00-red-ball-0", "01-green-ball-0", "02-blue-ball-0")
SIZE = (IDS[1], 0.07)


@pytest.fixture
def made(tmp_path: Path) -> Workspace:
    workspace, _, _ = write_workspace(tmp_path)
    write_ply(workspace.scene_ply, merged())
    stamps = {workspace.relative(path): stamp(path) for path in (workspace.scene_ply, workspace.scene_json)}
    record = StageRecord("done", "-", {}, {}, stamps=stamps)
    save(workspace.manifest, Manifest({"name": "balls", "sha256": "0" * 64}, {"scene": record}))
    return workspace


def merged() -> Gaussians:
    return concatenated([transform(*ball_gaussians(ball)) for ball in BALLS])


def described(path: Path) -> dict:  # type: ignore[type-arg]
    return dict(json.loads(path.read_text()))


def counts(path: Path) -> dict[str, int]:
    return {row["object_id"]: row["gaussians"] for row in described(path)["objects"]}


def shuffled(gaussians: Gaussians, left_out: int = 0) -> Gaussians:
    return gaussians.take(np.random.default_rng(0).permutation(len(gaussians))[left_out:])


def rounded(gaussians: Gaussians) -> Gaussians:
    """As an ASCII file with six digits has them."""
    return replace(gaussians, means=np.array([[f"{v:.6g}" for v in row] for row in gaussians.means], np.float32))


# ---- the merged .ply, cleaned -----------------------------------------------------------------------------------


@pytest.mark.parametrize("edit", [lambda g: g.take(slice(0, 4000)), lambda g: shuffled(g, 500), rounded, shuffled])
def test_a_cleaned_scene_is_exported_with_its_objects(made: Workspace, edit: Callable[[Gaussians], Gaussians]) -> None:
    cleaned = edit(merged())
    owners = np.concatenate([np.full(1500, number) for number in range(3)])
    by_place = {tuple(row): owner for row, owner in zip(rounded(merged()).means, owners, strict=True)}
    expected = [0, 0, 0]
    for row in rounded(cleaned).means:
        expected[by_place[tuple(row)]] += 1
    write_ply(made.scene_ply, cleaned)
    ply, path = export_scene(made, "ply", "opengl")
    start, data = 0, described(path)
    moved = read_ply(ply).means * np.float32([1, -1, -1])
    for row, ball, count in zip(data["objects"], BALLS, expected, strict=True):
        own = moved[start : start + row["gaussians"]]
        assert row["gaussians"] == count
        np.testing.assert_allclose(np.linalg.norm(own - ball.centre, axis=1), ball.radius, atol=1e-4)
        start += row["gaussians"]
    assert start == len(moved) == len(cleaned)
    assert "gaussians_of_no_object" not in data


def test_every_format_takes_it(made: Workspace) -> None:
    write_ply(made.scene_ply, shuffled(merged(), 500))
    for form, frame in (("ply", "z-up"), ("compressed.ply", "ros"), ("spz", "y-up")):
        path = export_scene(made, form, frame)[1]
        assert sum(counts(path).values()) == 4000
    export_scene(made, "spz")
    export_scene(made, "ply", "opencv", SIZE)


def test_an_object_that_is_gone_and_gaussians_that_are_new(made: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "sam3d_gs")
    everything = merged()
    inside = everything.take(slice(0, 10))  # within the first ball
    inside = replace(inside, means=np.float32(BALLS[0].centre) + 0.1 * inside.means / 4)
    away = everything.take(slice(0, 7))
    away = replace(away, means=away.means + np.float32([0, 0, 50]))
    write_ply(made.scene_ply, concatenated([away, everything.take(slice(0, 3000)), inside]))
    ply, path = export_scene(made, "ply", "z-up")
    assert counts(path) == {IDS[0]: 1510, IDS[1]: 1500}
    assert described(path)["gaussians_of_no_object"] == 7
    assert len(read_ply(ply)) == 3017
    assert (
        f"17 were moved or are new: 10 belong to the object around them, 7 to none. Nothing is left of {IDS[2]}."
        in caplog.text
    )
    assert [row["reprojection_iou"] for row in described(path)["objects"]] == [None, 0.9]
    with pytest.raises(UsageError, match=f"No object '{IDS[2]}'"):
        export_scene(made, "ply", "z-up", (IDS[2], 1.0))


def test_a_scene_that_was_turned_as_a_whole_is_refused_and_kept(made: Workspace) -> None:
    turned = transform(merged(), Pose(np.array([0.7, 0.7, 0, 0]) / np.hypot(0.7, 0.7), np.ones(3), 2.0))
    write_ply(made.scene_ply, turned)
    kept = made.scene_ply.read_bytes()
    write_ply(made.scene_ply, turned.take(slice(0, 4400)))
    with pytest.raises(BadInputError, match=r"moved as a whole.*without a frame"):
        export_scene(made, "ply", "z-up")
    assert len(read_ply(made.scene_ply)) == 4400
    assert kept[-68:] == turned_end(turned)
    export_scene(made, "spz")


def turned_end(gaussians: Gaussians) -> bytes:
    from sam3d_gs.gaussians.ply import pack

    return pack(gaussians.take(slice(len(gaussians) - 1, None))).tobytes()


def test_the_viewer_shows_the_cleaned_scene(made: Workspace) -> None:
    write_ply(made.scene_ply, merged().take(slice(0, 4000)))
    viewed = from_workspace(made)
    assert [len(part) for part in viewed.objects] == [1500, 1500, 1000]
    write_ply(made.scene_ply, transform(merged(), Pose(np.array([1.0, 0, 0, 0]), np.ones(3), 3.0)).take(slice(0, 99)))
    assert [len(part) for part in from_workspace(made).objects] == [1500] * 3


# ---- one description, one scale ---------------------------------------------------------------------------------


def test_another_scale_has_a_description_of_its_own(made: Workspace) -> None:
    ply, first = export_scene(made, "ply", "y-up", SIZE)
    kept = first.read_bytes()
    spz, second = export_scene(made, "spz", "y-up")
    assert (first.name, second.name) == ("balls.y-up.json", "balls.y-up.spz.json")
    assert first.read_bytes() == kept
    assert (described(first)["units"], described(first)["files"]) == ("metres", {"ply": made.relative(ply)})
    assert (described(second)["units"], described(second)["files"]) == ("arbitrary", {"compressed": made.relative(spz)})
    assert export_scene(made, "spz", "y-up", SIZE)[1] == first
    assert not second.exists()
    assert described(first)["files"] == {"ply": made.relative(ply), "compressed": made.relative(spz)}
    assert export_scene(made, "spz", "y-up", (IDS[0], 0.2))[1] == second
    assert described(first)["files"] == {"ply": made.relative(ply)}
    assert {first, second} <= set(made.in_multi_dir())


def test_every_description_is_true_after_any_order_of_exports(made: Workspace) -> None:
    rng = np.random.default_rng(0)
    scales: dict[str, str] = {}
    for _ in range(25):
        form = str(rng.choice(["ply", "spz", "compressed.ply"]))
        size = [None, SIZE, (IDS[0], 0.2)][rng.integers(3)]
        target, _ = export_scene(made, form, "opengl", size)
        scales[made.relative(target)] = f"metric: {size[0]} is {size[1]:g} m long" if size else "arbitrary"
        said: dict[str, list[str]] = {name: [] for name in scales}
        for path in made.multi_dir.glob("balls.opengl*.json"):
            for name in described(path)["files"].values():
                said[name].append(described(path)["scale_source"])
        assert said == {name: [scale] for name, scale in scales.items()}


def test_one_scale_shares_a_description(made: Workspace) -> None:
    paths = [export_scene(made, form, "opengl")[1] for form in ("ply", "spz")]
    assert paths[0] == paths[1]
    assert sorted(described(paths[0])["files"]) == ["compressed", "ply"]


# ---- exports that were edited -----------------------------------------------------------------------------------


def test_an_export_can_be_made_again(made: Workspace) -> None:
    for _ in range(2):
        paths = export_scene(made, "ply", "z-up")
        export_scene(made, "spz")
    assert not list(made.multi_dir.glob("*.edited.*"))
    assert len(paths) == 2


@pytest.mark.parametrize("which", [0, 1])
def test_an_edited_export_is_kept(made: Workspace, which: int) -> None:
    path = export_scene(made, "ply", "z-up")[which]
    raw = path.read_bytes()
    path.write_bytes(raw[:-2] + b" \n" if which else raw[:-1] + b"\x01")  # of the same size
    edited = path.read_bytes()
    if which:  # the JSON: the new description goes elsewhere
        assert export_scene(made, "ply", "z-up")[1].name == "balls.z-up.ply.json"
    else:
        with pytest.raises(
            BadInputError, match=r"balls\.z-up\.ply was edited since.*--force.*balls\.z-up\.edited\.ply"
        ):
            export_scene(made, "ply", "z-up")
    assert path.read_bytes() == edited
    export_scene(made, "ply", "z-up", force=True)
    assert path.read_bytes() == raw
    assert made.set_aside(path).read_bytes() == edited
    assert made.set_aside(path) in made.in_multi_dir()


def test_a_file_of_the_users_with_the_same_name_is_kept(made: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    path = made.export("compressed.ply")
    path.write_bytes(b"from an editor")
    export_scene(made, "compressed.ply")
    assert made.set_aside(path).read_bytes() == b"from an editor"
    assert "Yours is kept as balls.compressed.edited.ply" in caplog.text


def test_on_the_command_line(
    made: Workspace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    made.manifest.write_text("{}")
    call = ("export", "balls", "--workspace", made.root, "--frame", "y-up")
    code, out, err = sam3d_gs(monkeypatch, capfd, *call, "--spz-version", "2", "--known-size", f"{IDS[0]}=0.0001")
    assert (code, [Path(line).name for line in out.splitlines()]) == (0, ["balls.y-up.spz", "balls.y-up.json"])
    assert "balls.y-up.spz: .spz version 2" in err
    assert "4,500 of 4,500 Gaussians are thinner than 4.5e-05 units (e^-10), and become that thick" in err
    made.export("spz", "y-up").write_bytes(b"mine")
    code, _, err = sam3d_gs(monkeypatch, capfd, *call)
    assert (code, err.count("\n"), "--force" in err) == (1, 1, True)
    assert sam3d_gs(monkeypatch, capfd, *call, "--force")[0] == 0
    assert sam3d_gs(monkeypatch, capfd, *call, "--spz-version", "1", "--force")[0] == 2
    assert sam3d_gs(monkeypatch, capfd, *call, "--spz-version", "2", "--format", "ply")[0] == 2


def test_a_pose_moved_in_the_json_is_exported(made: Workspace) -> None:
    data = described(made.scene_json)
    data["objects"][2]["T_camera_object"][0][3] += 1.0
    made.scene_json.write_text(json.dumps(data))
    moved = read_ply(export_scene(made, "ply", "opengl")[0]).means
    np.testing.assert_allclose(moved[3000:].mean(0) - merged().means[3000:].mean(0) * [1, -1, -1], [1, 0, 0], atol=1e-3)
    assert read_scene(made.scene_json).objects[2].T_camera_object[0, 3] == pytest.approx(1.1)
