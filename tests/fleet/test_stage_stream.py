"""The pipe between stages in parallel processes: its messages, and how a broken pipe ends."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sam3d_gs.errors import UsageError
from sam3d_gs.fleet.stage_stream import StageStream
from sam3d_gs.manifest import load
from sam3d_gs.pipeline import Settings
from sam3d_gs.workspace import Workspace


def run(
    tmp_path: Path, *arguments: str, stdin: str = "", nvidia_smi: str = "", visible: str = ""
) -> subprocess.CompletedProcess[str]:
    tools = tmp_path / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "nvidia-smi").write_text(f"#!/bin/sh\n{nvidia_smi or 'exit 9'}\n")
    (tools / "nvidia-smi").chmod(0o755)
    environ = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    environ.pop("CUDA_VISIBLE_DEVICES", None)
    if visible:
        environ["CUDA_VISIBLE_DEVICES"] = visible
    command = [sys.executable, "-m", "sam3d_gs", "run", *arguments, "--workspace", str(tmp_path / "out")]
    return subprocess.run(command, input=stdin, env=environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_pass_on_writes_a_line_per_finished_photo_and_results_to_stderr(tmp_path: Path, picture: Path) -> None:
    names = [str(picture), str(tmp_path / "not there.png")]
    done = run(tmp_path, *names, "--stages", "phrases", "--phrases", "red cup", "--pass-on")
    assert done.returncode == 3
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{}, str(picture)]
    assert "kitchen: phrases: 1 phrases" in done.stderr


@pytest.mark.slow
def test_follow_processes_only_photos_that_are_passed_on(tmp_path: Path, picture: Path) -> None:
    follow = (str(picture), "--stages", "phrases", "--phrases", "red cup", "--follow")
    manifest = Workspace(tmp_path / "out", "kitchen").manifest
    for nothing in ("", "{}\n", "{}\n" + json.dumps(str(picture))):  # last: a line whose writer was killed
        assert run(tmp_path, *follow, stdin=nothing).returncode == 0
        assert load(manifest) is None
    for wrong in ("hello\n", '{}\n"/another.png"\n'):
        done = run(tmp_path, *follow, stdin=wrong)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
    assert run(tmp_path, *follow, stdin="{}\n" + json.dumps(str(picture)) + "\n").returncode == 0
    assert load(manifest) is not None


@pytest.mark.parametrize("line", ["[]", "7", '{"masks": 5}', '{"masks": [0]}', "[" * 5000, "\ufffd"])
def test_what_another_program_writes_is_refused(line: str) -> None:
    stream = StageStream.__new__(StageStream)
    stream._source, stream._sink = io.StringIO(line + "\n"), None
    with pytest.raises(UsageError, match="--follow reads what"):
        stream.assign_gpus(Settings(Path()), ["masks"], ["masks"])
    stream._source = io.StringIO(line + "\n")
    with pytest.raises(UsageError, match="--follow reads what"):
        list(stream.photos([]))


@pytest.mark.slow
def test_stages_that_do_not_fit_at_the_same_time_do_not_start(tmp_path: Path, picture: Path) -> None:
    small = "echo '0, Small, 580, 24564, 24100, GPU-a'"
    done = run(tmp_path, str(picture), "--stages", "phrases", "--profile", "full", "--pass-on", nvidia_smi=small)
    assert done.returncode == 1
    assert "phrases 19.9, masks 7.5, objects 8; free: GPU 0 23.5" in done.stderr
    assert "Leave out --overlap" in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_the_first_process_plans_the_gpus_of_all(tmp_path: Path, picture: Path) -> None:
    two = "echo '0, Large, 580, 143771, 143000, GPU-a'; echo '1, Large, 580, 143771, 143000, GPU-b'"
    own = ("--phrases", "red cup", "--profile", "full")
    first = run(tmp_path, str(picture), "--stages", "phrases", *own, "--pass-on", nvidia_smi=two)
    assert json.loads(first.stdout.splitlines()[0]) == {"objects": ["0"], "masks": ["1"]}
    arguments = (str(picture), "--stages", "phrases", *own, "--pass-on")
    limited = run(tmp_path, *arguments, nvidia_smi=two, visible="1")
    assert json.loads(limited.stdout.splitlines()[0]) == {"objects": ["1"], "masks": ["1"]}
    assert run(tmp_path, *arguments, nvidia_smi=two, visible="GPU-1234").returncode == 2
    # The next process uses this plan, whatever GPUs it finds itself.
    second = run(tmp_path, str(picture), "--stages", "phrases", *own, "--follow", "--pass-on", stdin=first.stdout)
    assert second.stdout == first.stdout
