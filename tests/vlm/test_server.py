"""`vllm serve` as a child: however it ends, or we do, no process of its group is left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sam3d_gs.errors import MissingPackageError, Sam3dGsError, UsageError
from sam3d_gs.vlm import server as module
from sam3d_gs.vlm.client import Client, ServerError
from sam3d_gs.vlm.gpus import GpuShare
from sam3d_gs.vlm.server import Launch, Server
from sam3d_gs.vlm.server_keys import ServerArguments, without_keys
from tests.vlm import fake_vllm

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")

LaunchFor = Callable[..., Launch]


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LaunchFor]:
    monkeypatch.setattr(module, "_STOP_S", 0.4)
    monkeypatch.setattr(module, "_STOP_STARTING_S", 0.2)
    monkeypatch.setattr(module, "_STOP_WORKERS_S", 0.2)

    def make(plan: dict[str, object] | None = None, **changes: object) -> Launch:
        program = fake_vllm.write(tmp_path / "bin", **(plan or {}))
        settings = {"model": "Qwen/Qwen3-VL-8B-Thinking", "context_tokens": 9216, "thinking": True, **changes}
        return Launch(str(program), log_file=tmp_path / "logs" / "vllm.log", **settings)  # type: ignore[arg-type]

    yield make
    for start in fake_vllm.starts(tmp_path / "bin"):
        fake_vllm.end(start["pid"])


def _group(launch: Launch) -> int:
    return int(fake_vllm.starts(Path(launch.command).parent)[-1]["pid"])


def test_starts_answers_and_leaves_nothing(launch: LaunchFor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of another server")
    how = launch({"worker": True}, gpus=GpuShare(("1", "3"), 2, 0.87), extra_arguments=("--enforce-eager",))
    with Server.start(how) as server:
        assert "Qwen/Qwen3-VL-8B-Thinking" in Client(server.base_url, server.key).models(2)
        with pytest.raises(ServerError, match="401"):
            Client(server.base_url).models(2)
        server.check_alive()
        assert len(fake_vllm.group_members(_group(how))) == 2
    assert fake_vllm.group_members(_group(how)) == []
    server.stop()  # again: nothing happens
    (start,) = fake_vllm.starts(Path(how.command).parent)
    arguments = start["arguments"]
    assert arguments[:2] == ["serve", "Qwen/Qwen3-VL-8B-Thinking"]
    for name, value in {
        "--host": "127.0.0.1",
        "--allowed-origins": "[]",
        "--tensor-parallel-size": "2",
        "--gpu-memory-utilization": "0.87",
        "--max-model-len": "9216",
        "--reasoning-parser": "qwen3",
        "--limit-mm-per-prompt": '{"image":1,"video":0}',
    }.items():
        assert arguments[arguments.index(name) + 1] == value
    assert arguments[-1] == "--enforce-eager"
    assert start["environment"]["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert len(start["environment"]["VLLM_API_KEY"]) > 30
    assert start["environment"]["OPENAI_API_KEY"] is None
    assert server.key not in how.log_file.read_text()
    assert server.key not in " ".join(arguments)


KEY = "sk-very-secret-123"


@pytest.mark.parametrize("given", [("--api-key", KEY), (f"--api-key={KEY}",), ("--api_key", KEY, "--enforce-eager")])
def test_our_own_key_is_used_and_not_shown(launch: LaunchFor, given: tuple[str, ...]) -> None:
    how = launch(extra_arguments=(*given, "--hf-token=hf_abcdefghijkl", "--otlp-traces-endpoint", "http://u:pw@h:1"))
    with Server.start(how) as server:
        assert server.key == KEY
        assert Client(server.base_url, KEY).models(2)
    (start,) = fake_vllm.starts(Path(how.command).parent)
    assert start["environment"]["VLLM_API_KEY"] == KEY
    assert start["environment"]["HF_TOKEN"] == "hf_abcdefghijkl"
    shown = " ".join(start["arguments"][:-1]) + how.log_file.read_text()
    for secret in (KEY, "hf_abcdefghijkl", "u:pw"):
        assert secret not in shown
    assert "http://<hidden>@h:1" in how.log_file.read_text()


def test_the_key_of_the_environment_is_used(launch: LaunchFor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    server = Server.start(launch())
    assert server.key == KEY
    said = server.leave_running()
    assert 'OPENAI_API_KEY="$VLLM_API_KEY"' in said
    assert KEY not in said


@pytest.mark.parametrize(
    "arguments",
    [("--api-key", KEY, "another-key"), ("--api-key",), ("--api-key=",), (f"HF_TOKEN={KEY}", "--enforce-eager")],
)
def test_keys_that_cannot_be_used_are_refused_unseen(arguments: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="--vllm-args") as caught:
        without_keys(arguments)
    assert KEY not in str(caught.value)


def test_arguments_without_keys_stay() -> None:
    arguments = (
        "--enforce-eager",
        "--hf-token",
        "--tokenizer",
        "a/b",
        "--hf-overrides",
        '{"pad_token": 5}',
        "--x",
        "A=1",
    )
    assert without_keys(arguments) == ServerArguments(arguments)


def test_a_key_in_its_last_words_is_hidden(launch: LaunchFor) -> None:
    how = launch({"says": f"ValueError: bad api_key={KEY}", "exits": 1}, extra_arguments=("--api-key", KEY))
    with pytest.raises(Sam3dGsError, match="bad api_key=<hidden>"):
        Server.start(how)


def test_a_server_that_does_not_listen_to_sigterm_is_killed(launch: LaunchFor) -> None:
    how = launch({"ignores_term": True, "worker": True})
    Server.start(how).stop()
    assert fake_vllm.group_members(_group(how)) == []


def test_its_death_at_the_start_names_reason_cure_and_log(launch: LaunchFor) -> None:
    line = "(EngineCore) ValueError: Free memory on device (1.0/24.0 GiB) is less than desired GPU memory utilization"
    how = launch({"says": "INFO hello\n" + line + "\nINFO bye", "exits": 1, "worker": True})
    with pytest.raises(Sam3dGsError, match=r"did not start: .*Free memory on device.*--gpus.*vllm\.log") as caught:
        Server.start(how)
    assert "\n" not in str(caught.value)
    assert fake_vllm.group_members(_group(how)) == []
    assert how.log_file.read_text().startswith(f"$ {how.command} serve")


def test_a_start_that_takes_too_long_is_ended(launch: LaunchFor) -> None:
    how = launch({"hangs": True, "ignores_term": True}, start_timeout_s=0.5)
    started_s = time.monotonic()
    with pytest.raises(Sam3dGsError, match=r"--start-timeout.*vllm\.log"):
        Server.start(how)
    assert time.monotonic() - started_s < 4
    for start in fake_vllm.starts(Path(how.command).parent):  # none where the machine is too busy to start it in time
        assert fake_vllm.group_members(start["pid"]) == []


def test_ctrl_c_while_it_starts(launch: LaunchFor, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        assert module._wait_for(lambda: bool(fake_vllm.starts(Path(how.command).parent)), 5)
        raise KeyboardInterrupt

    how = launch({"hangs": True, "worker": True})
    monkeypatch.setattr(Client, "models", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Server.start(how)
    assert fake_vllm.group_members(_group(how)) == []


def test_ctrl_c_while_it_stops_still_ends_it(launch: LaunchFor, monkeypatch: pytest.MonkeyPatch) -> None:
    how = launch({"ignores_term": True})
    server = Server.start(how)
    wait_for = module._wait_for

    def interrupted(*_: object) -> bool:
        monkeypatch.setattr(module, "_wait_for", wait_for)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_wait_for", interrupted)
    with pytest.raises(KeyboardInterrupt):
        server.stop()
    assert wait_for(lambda: not fake_vllm.group_members(_group(how)), 2)


def test_a_taken_port_is_said_at_once(launch: LaunchFor) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Sam3dGsError, match=rf"Port {port}.*--port"):
            Server.start(launch(port=port))
    assert not fake_vllm.starts(Path(launch().command).parent)


def test_another_server_on_the_port_is_not_taken_for_ours(launch: LaunchFor) -> None:
    """The other one serves the very same model; ours dies because the port is taken, but slowly."""
    with Server.start(launch()) as other:
        port = int(other.base_url.rpartition(":")[2].removesuffix("/v1"))
        how = launch({"hangs": True}, port=port, start_timeout_s=0.3)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_free_port", lambda wanted: wanted)
            with pytest.raises(Sam3dGsError, match="not ready"):
                Server.start(how)
        other.check_alive()


def test_a_server_that_wants_another_key_is_not_waited_for(launch: LaunchFor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REFUSED_S", 0.3)
    with pytest.raises(Sam3dGsError, match="--api-key"):
        Server.start(launch({"status": 401}))


def test_kept_on_request(launch: LaunchFor) -> None:
    how = launch()
    server = Server.start(how)
    said = server.leave_running()
    assert f"--base-url {server.base_url}" in said
    assert str(_group(how)) in said
    time.sleep(0.2)
    assert Client(server.base_url, server.key).models(2)
    assert server.key not in said
    (file,) = how.log_file.parent.glob("*.key")
    assert str(file) in said
    assert file.read_text() == server.key
    assert file.stat().st_mode & 0o777 == 0o600
    os.kill(_group(how), signal.SIGTERM)
    server._process.wait(5)


_OWNER = """
import sys, time
from pathlib import Path
from sam3d_gs.vlm.server import Launch, Server
server = Server.start(Launch(sys.argv[1], "m", Path(sys.argv[2]), 9216, False))
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_when_we_die_without_a_word_the_guard_ends_it(launch: LaunchFor, number: int) -> None:
    how = launch()
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER, how.command, str(how.log_file)], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout
        assert owner.stdout.readline() == "ready\n"
        assert fake_vllm.group_members(_group(how))
        owner.send_signal(number)
    assert module._wait_for(lambda: not fake_vllm.group_members(_group(how)), 3)


def test_its_death_while_answering_is_told(launch: LaunchFor) -> None:
    with Server.start(launch({"dies_at": 1})) as server:
        with pytest.raises(ServerError), suppress(AssertionError):
            Client(server.base_url, server.key).chat({"model": "m"}, 5)
        with pytest.raises(Sam3dGsError, match=r"vLLM died: torch\.OutOfMemoryError.*--gpus"):
            server.check_alive()


def test_no_program_and_no_permission(tmp_path: Path, launch: LaunchFor) -> None:
    with pytest.raises(MissingPackageError, match="--vllm-command"):
        Server.start(Launch("no-such-vllm", "m", tmp_path / "log", 1024, False))
    blocked = tmp_path / "file"
    blocked.write_text("")
    how = launch()
    with pytest.raises(Sam3dGsError, match="Cannot write"):
        Server.start(Launch(how.command, "m", blocked / "vllm.log", 1024, False))
    Path(how.command).write_text("no program")
    with pytest.raises(Sam3dGsError, match="Cannot run"):
        Server.start(how)
