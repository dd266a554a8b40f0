from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sam3d_gs.errors import BadInputError, Sam3dGsError
from sam3d_gs.files import atomic_path, clear_temporary, read_json, sha256_of, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(AttributeError), atomic_path(path) as temporary:
        temporary.write_text("half").write_more()  # type: ignore[attr-defined]
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_is_one_line_naming_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(Sam3dGsError, match=r"a\.json.*finished work is kept") as caught, atomic_path(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Sam3dGsError, match="Permission denied"):
        write_text(tmp_path / "a.txt", "x")


def test_a_file_in_place_of_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("I am a file")
    with pytest.raises(Sam3dGsError, match="Cannot write"):
        write_text(tmp_path / "folder" / "a.txt", "x")


def test_new_files_have_the_usual_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / "ours", "x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_refuses_nan_and_keeps_letters(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"name": "café"})
    assert "café" in path.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"x": float("nan")})
    assert read_json(path, "thing") == {"name": "café"}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_damaged_json_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=r"a\.json"):
        read_json(path, "thing")


def test_only_our_own_leftovers_are_cleared(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "x.ply") as mine, atomic_path(tmp_path / "x.b.ply") as other:
        left = [path.name for path in (mine, other)]
    for name in left:
        (tmp_path / name).write_bytes(b"half")
    for path in (tmp_path / "x.ply", tmp_path / "x.b.ply"):
        path.unlink()
    (tmp_path / "tmp.txt").write_bytes(b"the user's")
    clear_temporary(tmp_path, [tmp_path / "x.ply", tmp_path / "x.json"])
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([left[1], "tmp.txt"])
    clear_temporary(tmp_path)
    clear_temporary(tmp_path / "not there")
    assert [p.name for p in tmp_path.iterdir()] == ["tmp.txt"]


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_name_that_is_not_utf8_comes_back_from_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xf0\x9f\xa6\x86.png")
    write_json(tmp_path / "a.json", {"file": name})
    assert read_json(tmp_path / "a.json", "thing") == {"file": name}
    with atomic_path(tmp_path / name) as temporary:
        temporary.write_bytes(b"x")
    assert (tmp_path / name).read_bytes() == b"x"


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '[{"x": {"k": [], "k": []}}]'])
def test_a_key_that_is_there_twice_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(BadInputError, match=r"a\.json.* is there twice"):
        read_json(tmp_path / "a.json", "thing")


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" * 400, "NaN", "Infinity", "-Infinity"])
def test_every_number_that_is_read_is_finite(tmp_path: Path, number: str) -> None:
    (tmp_path / "a.json").write_text(f'{{"seconds": {number}}}')
    with pytest.raises(BadInputError, match=r"a\.json is not a readable thing"):
        read_json(tmp_path / "a.json", "thing")
