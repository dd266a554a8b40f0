"""The engines `vllm` and `openai` behind the command line, with a fake vLLM and a stub server."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from sam3d_gs.errors import EXIT_FAILED, EXIT_STOPPED, EXIT_USAGE
from tests.command_line import sam3d_gs
from tests.vlm import fake_vllm
from tests.vlm.stub_server import chat, closes, endless, raw, serve, status

Run = Callable[..., tuple[int, str, str]]
GOOD = chat('{"objects": [{"phrase": "red cup", "count": 2}, {"phrase": "spoon"}, {"phrase": "red cups"}]}', "Hm.")
KEY = "sk-very-secret-123"


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """Run `sam3d-gs phrases ARGS` in this process; exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sam3d_gs.vlm.server._STOP_S", 0.4)
    for name in [*os.environ]:
        if name.startswith("SAM3D_GS_VL") or name in ("OPENAI_API_KEY", "VLLM_API_KEY", "CUDA_VISIBLE_DEVICES"):
            monkeypatch.delenv(name)

    def run(*args: object) -> tuple[int, str, str]:
        return sam3d_gs(monkeypatch, capfd, "phrases", *args)

    yield run
    for start in fake_vllm.starts(tmp_path / "bin"):
        fake_vllm.end(start["pid"])


def _vllm(tmp_path: Path, **plan: object) -> list[object]:
    return ["--engine", "vllm", "--vllm-command", fake_vllm.write(tmp_path / "bin", **plan)]


def _run_dir(tmp_path: Path, photo: str = "kitchen") -> Path:
    return tmp_path / "outputs" / "master_with_vllm" / photo


def _json(path: Path) -> dict[str, object]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _nothing_runs(tmp_path: Path) -> bool:
    starts = fake_vllm.starts(tmp_path / "bin")
    assert starts
    return not any(fake_vllm.group_members(start["pid"]) for start in starts)


def test_several_photos_one_start(cli: Run, picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "garden.png"
    Image.new("RGB", (64, 48), "blue").save(other)
    code, out, err = cli(picture, other, *_vllm(tmp_path, worker=True))
    assert code == 0, err
    assert out.count("2 phrases") == 2
    (start,) = fake_vllm.starts(tmp_path / "bin")
    assert start["environment"]["OPENAI_API_KEY"] is None
    assert _nothing_runs(tmp_path)
    phrases = _json(_run_dir(tmp_path) / "phrases.json")["phrases"]
    assert [row["text"] for row in phrases] == ["red cup", "spoon"]  # type: ignore[attr-defined]
    answer = _json(_run_dir(tmp_path, "garden") / "answer.json")
    assert answer["attempts"][0]["reasoning"] == "Two things."  # type: ignore[index]
    log = tmp_path / "outputs" / "master_with_vllm" / "logs" / "vllm.log"
    assert log.exists()
    assert str(log) in err


@pytest.mark.slow
def test_how_the_server_runs_does_not_make_it_work_again(cli: Run, picture: Path, tmp_path: Path) -> None:
    engine = _vllm(tmp_path)
    assert cli(picture, *engine)[0] == 0
    assert "up to date" in cli(picture, *engine, "--gpus", "0", "--start-timeout", "77")[1]
    assert len(fake_vllm.starts(tmp_path / "bin")) == 1
    assert "2 phrases" in cli(picture, *engine, "--include-surfaces")[1]
    prompt = tmp_path / "prompt.md"
    prompt.write_text("List toys.")
    for text, said in (("List toys.", "2 phrases"), ("List toys.", "up to date"), ("List tools.", "2 phrases")):
        prompt.write_text(text)
        assert said in cli(picture, *engine, "--include-surfaces", "--system-prompt", prompt)[1]
    assert _json(_run_dir(tmp_path) / "answer.json")["system_prompt"] == "List tools."


def test_killed_while_answering(cli: Run, picture: Path, tmp_path: Path) -> None:
    code, _, err = cli(picture, *_vllm(tmp_path, dies_at=1, worker=True))
    assert code == EXIT_FAILED
    assert "OutOfMemoryError" in err.splitlines()[-1]
    assert "vllm.log" in err.splitlines()[-1]
    assert _nothing_runs(tmp_path)
    assert _json(_run_dir(tmp_path) / "answer.json")["attempts"]


@pytest.mark.slow
def test_ctrl_c_while_answering(picture: Path, tmp_path: Path) -> None:
    engine = map(str, _vllm(tmp_path, sleeps_at=1, worker=True))
    command = [sys.executable, "-m", "sam3d_gs", "phrases", str(picture), "-w", str(tmp_path), *engine]
    # A shell's background jobs, which these tests may be, ignore Ctrl-C, and so would their children.
    hears = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=hears) as process:
        end_s = time.monotonic() + 20
        while not (tmp_path / "bin" / "asked").exists() and time.monotonic() < end_s:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == EXIT_STOPPED, err
    assert "Finished work is kept" in err
    assert _nothing_runs(tmp_path)


def test_kept_server_serves_the_openai_engine(
    cli: Run, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = cli(picture, *_vllm(tmp_path), "--keep-server")
    assert code == 0, err
    said = err.splitlines()[-1]
    assert "To stop it: kill -TERM" in said
    url = said.partition("--base-url ")[2].split()[0]
    (key_file,) = (tmp_path / "outputs" / "master_with_vllm" / "logs").glob("*.key")
    monkeypatch.setenv("OPENAI_API_KEY", key_file.read_text())
    code, out, err = cli(picture, "--engine", "openai", "--base-url", url)
    assert code == 0, err
    assert "2 phrases" in out
    (pid,) = [start["pid"] for start in fake_vllm.starts(tmp_path / "bin")]
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--engine", "openai"], "--base-url"),
        (["--engine", "openai", "--base-url", "ftp://x"], "--base-url"),
        (["--engine", "openai", "--base-url", "http://127.0.0.1:1/v1", "--gpus", "0"], "--gpus"),
        (["--engine", "embedded", "--max-tokens", "100"], "--max-tokens"),
        (["--engine", "embedded", "--request-timeout", "3"], "--request-timeout "),
        (["--engine", "vllm", "--vllm-command", "no-such-program"], "--vllm-command"),
        (["--engine", "vllm", "--vllm-command", "true", "--vllm-args", "--x 'y"], "--vllm-args"),
        (["--engine", "vllm", "--vllm-command", "true", "--system-prompt", "nowhere.md"], "--system-prompt"),
    ],
)
def test_wrong_options_are_one_line(cli: Run, picture: Path, arguments: list[str], words: str) -> None:
    code, _, err = cli(picture, *arguments)
    assert code in (EXIT_USAGE, EXIT_FAILED)
    assert words in err.splitlines()[-1]
    assert "Traceback" not in err


def test_openai_with_a_key(cli: Run, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with serve(GOOD, key=KEY) as stub:
        url = ["--engine", "openai", "--base-url", stub.url]
        code, _, err = cli(picture, *url)
        assert code == EXIT_FAILED
        assert "401" in err
        code, out, err = cli(picture, *url, "--api-key-env", "MY_KEY", "--model", "some/model")
    assert code == 0, err
    assert "2 phrases" in out
    assert stub.requests[0]["model"] == "some/model"
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in content for content in written)
    rows = _json(_run_dir(tmp_path) / "phrases.json")["phrases"]
    assert rows[0]["count"] == 2  # type: ignore[index]
    dropped = _json(_run_dir(tmp_path) / "answer.json")["dropped"]
    assert dropped == [{"text": "red cups", "reason": "the same as 'red cup'"}]


def test_a_key_in_the_clear_is_refused_before_any_request(
    cli: Run, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    url = ["--engine", "openai", "--base-url", "http://127.1:1/v1"]
    code, _, err = cli(picture, *url)
    assert code == EXIT_USAGE
    assert "--key-over-http" in err.splitlines()[-1]
    for extra in (["--api-key-env", ""], ["--key-over-http"]):
        code, _, err = cli(picture, *url, *extra)
        assert code == EXIT_FAILED, "nobody listens there"
        assert "No answer from" in err
    for name, words in ((KEY, "not the key itself"), ("hf_abcdefghijkl", "which is not set")):
        code, _, err = cli(picture, *url, "--api-key-env", name)
        assert code == EXIT_USAGE
        assert words in err
        assert name not in err


def test_a_key_in_the_vllm_arguments_is_nowhere(cli: Run, picture: Path, tmp_path: Path) -> None:
    engine = _vllm(tmp_path)
    code, _, err = cli(picture, *engine, "--vllm-args", f"--api-key {KEY} --enforce-eager")
    assert code == 0, err
    assert KEY not in err
    options = _json(_run_dir(tmp_path) / "manifest.json")["stages"]["phrases"]["options"]  # type: ignore[index]
    assert options["vllm_args"] == "--api-key <hidden> --enforce-eager"
    outputs = [path.read_bytes() for path in (tmp_path / "outputs").rglob("*") if path.is_file()]
    assert not any(KEY.encode() in content for content in outputs)
    assert "up to date" in cli(picture, *engine, "--vllm-args", "--api-key another-key --enforce-eager")[1]
    assert KEY not in cli(picture, *engine, "--vllm-args", f"--api-key '{KEY}")[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("say", "words"),
    [
        (status(500), "HTTP 500"),
        (raw(b"<html>no</html>"), "did not return JSON"),
        (closes, "No answer"),
        (endless, "had not finished its answer"),
        (chat('{"objects": []}'), "--phrases"),
    ],
)
def test_failures_are_one_line_and_leave_the_words(
    cli: Run, picture: Path, tmp_path: Path, say: Callable[..., None], words: str
) -> None:
    with serve(say) as stub:
        code, _, err = cli(picture, "--engine", "openai", "--base-url", stub.url)
    assert code == EXIT_FAILED
    assert words in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("Error: ")
    assert _json(_run_dir(tmp_path) / "answer.json")["attempts"]
    with serve(GOOD) as stub:
        assert "2 phrases" in cli(picture, "--engine", "openai", "--base-url", stub.url)[1]
