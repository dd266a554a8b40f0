"""The camera in what users have: numbers, matrices, and the files of other programs."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam3d_gs.errors import BadInputError
from sam3d_gs.rgbd.camera import Camera, View
from sam3d_gs.rgbd.intrinsics_files import read_intrinsics

VIEW = View("desk.jpg", (640, 480))
K = np.array([[600.0, 0, 322], [0, 610, 238], [0, 0, 1]])
PLAIN = Camera(600, 610, 322, 238)
SIZED = Camera(600, 610, 322, 238, (640, 480))
OTHER = {"fx": 500, "fy": 500, "cx": 320, "cy": 240, "width": 640, "height": 480}
OURS = {"fx": 600, "fy": 610, "cx": 322, "cy": 238, "width": 640, "height": 480}


def frame(name: str, **camera: float) -> dict[str, Any]:
    return {"file_path": name, "transform_matrix": np.eye(4).tolist(), **camera}


NERF = {"fl_x": 600, "fl_y": 610, "cx": 322, "cy": 238, "w": 640, "h": 480}
OPEN3D = {"width": 640, "height": 480, "intrinsic_matrix": K.T.ravel().tolist()}
JSON: dict[str, tuple[Any, Camera]] = {
    "the matrix alone": (K.tolist(), PLAIN),
    "four numbers": ([600, 610, 322, 238], PLAIN),
    "K": ({"K": K.tolist()}, PLAIN),
    "camera_matrix": ({"camera_matrix": K.ravel().tolist(), "width": 640, "height": 480}, SIZED),
    "size outside": ({"width": 640, "height": 480, "camera": {"fx": 600, "fy": 610, "cx": 322, "cy": 238}}, SIZED),
    "Open3D": (OPEN3D, SIZED),
    "Open3D parameters": ({"extrinsic": np.eye(4).ravel().tolist(), "intrinsic": OPEN3D}, SIZED),
    "RealSense": (
        {"fx": 600, "fy": 610, "ppx": 322, "ppy": 238, "width": 640, "height": 480, "model": "x", "coeffs": [0.0] * 5},
        SIZED,
    ),
    "RealSense, both": ({"depth": OTHER, "color": OURS}, SIZED),
    "ROS message": ({"K": K.ravel().tolist(), "D": [0.0] * 5, "width": 640, "height": 480, "roi": {}}, SIZED),
    "transforms.json": ({**NERF, "frames": [frame("a.png")]}, SIZED),
    "transforms.json by frame": (
        {"frames": [frame("images/a.png", **{**NERF, "fl_x": 1}), frame("images/desk.png", **NERF)]},
        SIZED,
    ),
    "Record3D": ({"K": K.T.ravel().tolist(), "w": 640, "h": 480}, SIZED),
    "3DGS cameras.json": (
        [
            {"img_name": "a", "fx": 1, "fy": 1, "width": 640, "height": 480},
            {"img_name": "desk", "fx": 600, "fy": 610, "width": 640, "height": 480},
        ],
        Camera(600, 610, 320, 240, (640, 480)),
    ),
    "by number": ({"0": {"cam_K": [1, 1, 1, 1]}, "desk": {"cam_K": K.ravel().tolist()}}, PLAIN),
}
YAML: dict[str, tuple[str, Camera]] = {
    "ROS calibration": (
        "image_width: 640\nimage_height: 480\ncamera_matrix:\n  rows: 3\n  cols: 3\n"
        "  data: [600.0, 0, 322.0, 0, 610, 238, 0, 0, 1]\ndistortion_coefficients: {rows: 1, cols: 5, data: [0.1, 0]}\n"
        "projection_matrix: {rows: 3, cols: 4, data: [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]}\n",
        Camera(600, 610, 322, 238, (640, 480), distorted=True),
    ),
    "ROS message": (
        "height: 480\nwidth: 640\nd: [0.0]\nk:\n- 600\n- 0\n- 322\n- 0\n- 610\n- 238\n- 0\n- 0\n- 1\n---\n",
        SIZED,
    ),
    "OpenCV": (
        "%YAML:1.0\n---\nimage_width: 640\nimage_height: 480\ncamera_matrix: !!opencv-matrix\n   rows: 3\n   cols: 3\n"
        "   dt: d\n   data: [ 6.0e+02, 0., 322., 0., 6.1e2, 238., 0., 0., 1. ]\n",
        SIZED,
    ),
    "Kalibr": ("cam0:\n  intrinsics: [600, 610, 322, 238]\n  resolution: [640, 480]\n", SIZED),
    "ORB-SLAM": (
        "%YAML:1.0\nCamera.fx: 600.0\nCamera.fy: 610\nCamera.cx: 322\nCamera.cy: 238\nCamera.k1: 0.1\n"
        "Camera.width: 640\nCamera.height: 480\n",
        Camera(600, 610, 322, 238, (640, 480), distorted=True),
    ),
}
TEXT: dict[str, tuple[str, Camera]] = {
    "matrix": ("600 0 322\n0 610 238\n0 0 1\n", PLAIN),
    "four": ("# fx fy cx cy\n600, 610\n322 238\n", PLAIN),
    "4 x 4, ScanNet": ("600 0 322 0\n0 610 238 0\n0 0 1 0\n0 0 0 1\n", PLAIN),
    "3 x 4": ("600 0 322 0\n0 610 238 0\n0 0 1 0\n", PLAIN),
    "JSON": (json.dumps(OURS), SIZED),
    "COLMAP": ("# Camera list\n#   CAMERA_ID, MODEL\n1 PINHOLE 640 480 600 610 322 238\n", SIZED),
    "COLMAP, radial": ("1 SIMPLE_RADIAL 640 480 600 322 238 0.1", Camera(600, 600, 322, 238, (640, 480), True)),
    "COLMAP, two": ("1 PINHOLE 800 600 1 1 1 1\n2 PINHOLE 640 480 600 610 322 238\n", SIZED),
    "rs-enumerate-devices": (
        'Device info:\n    Name   :  RealSense\n Intrinsic of "Depth" / 640x480 / {Z16}\n  Width: 640\n  Height: 480\n'
        '  PPX: 1\n  PPY: 1\n  Fx: 1\n  Fy: 1\n Intrinsic of "Color" / 640x480 / {RGB8}\n  Width:\t640\n  Height: 480\n'
        "  PPX:  322\n  PPY: 238\n  Fx: 600\n  Fy: 610\n  Distortion: Brown Conrady\n  Coeffs:  0  0  0  0  0\n",
        SIZED,
    ),
}
FILES = {
    **{f"{name}.json": (json.dumps(content), camera) for name, (content, camera) in JSON.items()},
    **{f"{name}.yaml": case for name, case in YAML.items()},
    **{f"{name}.txt": case for name, case in TEXT.items()},
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_programs(tmp_path: Path, name: str) -> None:
    content, camera = FILES[name]
    (tmp_path / name).write_text(content)
    assert read_intrinsics(str(tmp_path / name), VIEW) == camera


def test_numbers_and_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", K)
    np.savez(tmp_path / "k.npz", K=K, depth=np.ones((3, 4)))
    for source in ("600,610,322,238", " 600.0, 6.1e2 ,322,238", str(tmp_path / "k.npy"), str(tmp_path / "k.npz")):
        assert read_intrinsics(source, VIEW) == PLAIN


def test_a_field_of_view_alone(tmp_path: Path) -> None:
    (tmp_path / "transforms.json").write_text(json.dumps({"camera_angle_x": 1.0, "frames": [frame("r_0")]}))
    camera = read_intrinsics(str(tmp_path / "transforms.json"), VIEW)
    assert (camera.fx, camera.fy) == (pytest.approx(320 / math.tan(0.5)),) * 2
    assert (camera.cx, camera.cy) == (320, 240)


def test_one_of_several_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sam3d_gs")
    (tmp_path / "k.json").write_text(json.dumps({"left": OTHER, "rgb": OURS}))
    assert read_intrinsics(str(tmp_path / "k.json"), VIEW) == SIZED
    assert 'of 2 cameras "rgb" is taken for desk.jpg' in caplog.text
    (tmp_path / "k.json").write_text(json.dumps({"left": OTHER, "right": OURS}))
    with pytest.raises(BadInputError, match=r"2 cameras \(left, right\), and none is named after desk.jpg"):
        read_intrinsics(str(tmp_path / "k.json"), VIEW)
    (tmp_path / "k.json").write_text(json.dumps({"left": OURS, "right": OURS}))
    assert read_intrinsics(str(tmp_path / "k.json"), VIEW) == SIZED


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("", "holds 0 numbers"),
        ("50,60,20", "holds 3 numbers"),
        ("50,60,20,a", "not a list of numbers"),
        ("nan,60,20,15", "not finite"),
        ("-50,60,20,15", "are no pixels"),
        ("50,2,20,0,60,15,0,0,1", "skew"),
        ("50,0,20,0,60,15,0,0,2", "not a camera matrix"),
        ("50,0,20,9,0,60,15,0,0,0,1,0", "not a camera matrix"),
    ],
)
def test_numbers_that_are_no_camera(source: str, why: str) -> None:
    with pytest.raises(BadInputError, match=why) as caught:
        read_intrinsics(source, VIEW)
    assert "fx,fy,cx,cy in pixels" in str(caught.value)
    assert "\n" not in str(caught.value)


def _laughs(top: str) -> str:
    """YAML that holds a billion values by reference."""
    lines = [
        f"{new}: &{new} {{{', '.join(f'x{n}: *{old}' for n in range(9))}}}"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    return "\n".join([top, *lines])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("k.json", '{"fx": 50}'),
        ("k.json", '{"fx": true, "fy": 1, "cx": 1, "cy": 1}'),
        ("k.json", '{"fx": [1], "fy": 1, "cx": 1, "cy": 1}'),
        ("k.json", '{"K": "no"}'),
        ("k.json", '{"K": {"data": {"a": 1}}}'),
        ("k.json", "{"),
        ("k.json", "[[1,2],[3]]"),
        ("k.json", '{"K": [50,60,20,15], "width": 0, "height": 4}'),
        ("k.json", '{"K": [50,60,20,15], "width": "wide", "height": 4}'),
        ("k.json", '{"K": [600,600,320,240], "width": 640, "height": 480, "roi": {"x_offset": 8, "y_offset": 0}}'),
        ("k.json", '{"camera_angle_x": 9}'),
        ("k.json", '"text"'),
        ("k.json", "null"),
        ("k.json", "[" * 5000),
        ("k.yaml", "a: [1,\n"),
        ("k.yaml", "!!python/object/apply:os.system ['true']\n"),
        ("k.yaml", "image_width: 0\nimage_height: 0\nK: [0,0,0,0,0,0,0,0,0]\n"),
        ("k.yaml", ""),
        ("k.yaml", _laughs("a: &a {q: 1}")),
        ("k.yaml", _laughs("a: &a [1]") + "\nK: [*i]"),
        ("k.txt", "1 PINHOLE 640 480 600\n"),
        ("k.txt", "hello"),
        ("k.txt", "Fx: 3\nFy: 4\n"),
        ("k.cfg", "\0\0"),
    ],
)
def test_files_that_hold_no_camera(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInputError, match=r"k\.") as caught:
        read_intrinsics(str(tmp_path / name), VIEW)
    assert "\n" not in str(caught.value)


def test_absent_files_and_arrays_without_numbers(tmp_path: Path) -> None:
    for name in ("k.json", "k.npy", "k.txt", "k.yaml", "folder/k", "k" * 300):
        with pytest.raises(BadInputError, match=f"No file of camera intrinsics at .*{name}"):
            read_intrinsics(str(tmp_path / name), VIEW)
    for matrix in (np.eye(3) * 1j, np.full((3, 3), "50"), np.eye(3) > 0, np.ones((5, 5))):
        np.save(tmp_path / "k.npy", matrix)
        with pytest.raises(BadInputError, match=r"k\.npy.*no numbers"):
            read_intrinsics(str(tmp_path / "k.npy"), VIEW)
