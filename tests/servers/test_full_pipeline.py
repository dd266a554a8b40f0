"""The full profile from a machine without weights to a scene: a real vLLM, three environments, tiny networks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sam3d_gs.workspace import Workspace
from tests.hub import serving
from tests.servers.full_machine import Machine, full_hub, make_environments
from tests.servers.real_vllm import photo, server_groups, wait_until

pytestmark = pytest.mark.servers

LONG = ("--max-tokens", "3900", "--thinking-tokens", "3900")  # some ten seconds of endless thinking


@pytest.fixture(scope="module")
def bare(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The environments are made, the hub has the weights, and none are here."""
    base = tmp_path_factory.mktemp("my machine")
    make_environments(base)
    with serving(full_hub(base / "made", model)) as hub:
        yield Machine(base, hub)


@pytest.fixture(scope="module")
def full(bare: Machine) -> Machine:
    """The weights have been downloaded."""
    done = bare.online().sam3d_gs("checkpoints", "download")
    assert done.returncode == 0, done.stderr
    return bare


def _phrases(workspace: Workspace) -> list[str]:
    return [row["text"] for row in json.loads(workspace.phrases_json.read_text())["phrases"]]


def _attempts(workspace: Workspace) -> list[dict[str, Any]]:
    return list(json.loads(workspace.answer_json.read_text())["attempts"])


def _has_scene(workspace: Workspace) -> bool:
    return workspace.scene_ply.stat().st_size > 1000 and bool(json.loads(workspace.scene_json.read_text())["objects"])


def test_doctor_without_weights(bare: Machine, tmp_path: Path) -> None:
    empty = Machine(bare.base, bare.hub, {"HF_HOME": str(tmp_path), "SAM3D_GS_WORKSPACE": str(tmp_path)})
    data = json.loads((done := empty.sam3d_gs("doctor", "--json")).stdout)
    assert done.returncode == 1
    assert not any(environment["problem"] for environment in data["environments"].values())
    fixes = {stage["stage"]: [problem["fix"] for problem in stage["problems"]] for stage in data["stages"]}
    assert fixes["phrases"] == ["sam3d-gs checkpoints download qwen3-vl"]  # offline: it cannot come by itself
    assert len(fixes["masks"]) == 1 and fixes["masks"][0].startswith("hf auth login")
    assert fixes["objects"][0].startswith("hf auth login")
    assert fixes["objects"][1] == "sam3d-gs checkpoints download moge"
    stopped = empty.run(*empty.pipeline(photo(tmp_path, "red")))
    assert stopped.returncode == 1
    assert "nothing was started" in stopped.stderr.splitlines()[-1]
    assert all(fix in stopped.stderr for fix in fixes["objects"])
    assert not server_groups(tmp_path) and not (tmp_path / "outputs").exists()


def test_doctor_names_the_environment_that_is_missing(full: Machine) -> None:
    lacking = Machine(full.base, full.hub, {"SAM3D_GS_ENV_SAM3": "nowhere"})
    done = lacking.sam3d_gs("doctor", "--quiet")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "environment nowhere" in line and "Next: bash envs/setup.sh --env sam3" in line


def test_doctor_with_everything(full: Machine) -> None:
    done = full.online().sam3d_gs("doctor", "--json", "--online", "--deep")
    data = json.loads(done.stdout)
    assert done.returncode == 0, data["stages"]
    assert data["ready"] and [stage["ready"] for stage in data["stages"]] == [True] * 3
    packages = {stage: environment["packages"] for stage, environment in data["environments"].items()}
    assert packages["phrases"]["vllm"] and packages["masks"]["transformers"] and packages["objects"]["safetensors"]
    assert all(row["complete"] and row["compared_with"] == "the record of the download" for row in data["checkpoints"])
    assert len(data["checkpoints"]) == 4 and set(data["hub"]["access"].values()) == {"granted"}
    text = full.sam3d_gs("doctor").stdout
    for words in ("environment vllm", "weights sam-3d-objects", "HF_HUB_OFFLINE", "1. phrases (vllm) in vllm on"):
        assert words in text
    assert text.splitlines()[-1].split(maxsplit=2) == ["profile", "full", "can run here"]


def test_one_click_from_photo_to_scene(full: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command, started_s = full.pipeline(photo(tmp_path, "red", "kitchen")), time.monotonic()
    done = full.run(*command)
    seconds = time.monotonic() - started_s
    assert done.returncode in (0, 3), done.stderr  # random masks: some are too small for an object
    workspace = Workspace(full.workspace, "kitchen")
    assert _phrases(workspace) == ["red ball"]
    stages = json.loads(workspace.manifest.read_text())["stages"]
    engines = {name: stages[name]["engine"] for name in ("phrases", "masks", "objects")}
    assert engines == {"phrases": "vllm", "masks": "sam3", "objects": "native"}
    assert _has_scene(workspace)
    again = full.run(*command)
    assert again.stdout.count("up to date") >= 3
    assert "ready after" not in again.stderr  # no server for what is there
    with capsys.disabled():
        print(f"\nFrom the photo to the scene {seconds:.1f} s.")


def test_stages_at_the_same_time(full: Machine, tmp_path: Path) -> None:
    pictures = {colour: photo(tmp_path, colour, f"{colour}_overlap") for colour in ("red", "blue")}
    done = full.run(*full.pipeline(*pictures.values(), "--overlap"))
    assert done.returncode in (0, 3), done.stderr
    for colour, picture in pictures.items():
        workspace = Workspace(full.workspace, picture.stem)
        assert _phrases(workspace) == [f"{colour} ball"]
        assert _has_scene(workspace)
    assert done.stderr.count("Starting vLLM") == 1


def test_a_server_killed_while_it_answers(full: Machine, endless: Path, tmp_path: Path) -> None:
    """The run ends and says so. Another one goes through, though the model never closes its thinking."""
    picture, workspace = photo(tmp_path, "blue", "killed"), Workspace(full.workspace, "killed")
    process = _start_and_wait_for_the_answer(full, picture, endless)
    (group,) = server_groups(full.workspace)
    os.kill(group, signal.SIGKILL)  # of its processes the one we know
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    last = err.splitlines()[-1]
    assert "vLLM died" in last and "vllm.log" in last
    assert not workspace.masks_json.exists()

    done = full.run(*full.pipeline(picture, "--model", endless))
    assert done.returncode in (0, 3), done.stderr
    (attempt,) = _attempts(workspace)
    assert attempt["reasoning"].startswith("the photo shows blue\nthe photo shows blue\nthe")
    assert _phrases(workspace) == ["blue ball"]
    assert _has_scene(workspace)


def test_ctrl_c_while_it_answers(full: Machine, endless: Path, tmp_path: Path) -> None:
    process = _start_and_wait_for_the_answer(full, photo(tmp_path, "red", "stopped"), endless)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert not server_groups(full.workspace)


def test_a_port_that_is_taken(full: Machine, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = full.run(*full.pipeline(photo(tmp_path, "red", "port"), "--port", port))
    assert done.returncode == 1
    assert f"Port {port} of this machine cannot be used" in done.stderr.splitlines()[-1]
    assert "Starting vLLM" not in done.stderr


def test_a_port_that_is_taken_while_vllm_starts(full: Machine, tmp_path: Path) -> None:
    """By a server that says it is well and has the model: it must not be asked for ours."""
    port = _free_port()
    process = full.start(*full.pipeline(photo(tmp_path, "red", "race"), "--port", port))
    wait_until(lambda: server_groups(full.workspace), process)
    with _another_server(port) as asked:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Another program took the port" in err.splitlines()[-1], err
    assert asked and "/v1/chat/completions" not in asked


def _start_and_wait_for_the_answer(full: Machine, picture: Path, model: Path) -> subprocess.Popen[str]:
    port = _free_port()
    process = full.start(*full.pipeline(picture, "--model", model, "--port", port, *LONG))

    def answers() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as response:
            running = [line for line in response.read().decode().splitlines() if "num_requests_running{" in line]
            return any(float(line.rsplit(" ", 1)[1]) > 0 for line in running)
        return False

    wait_until(answers, process)
    return process


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _another_server(port: int) -> Iterator[list[str]]:
    """Answers every question as vLLM with our model would; gives the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked.append(self.path)
            body = json.dumps({"data": [{"id": "Qwen/Qwen3-VL-8B-Thinking"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield asked
        finally:
            server.shutdown()
