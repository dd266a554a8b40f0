"""Run `vllm serve` as a child process: start it on loopback, wait until it is ready, stop it with all its workers.

The child leads its own session, so that Ctrl-C reaches us first and the whole process group can be ended: a killed vLLM
leaves its engine and worker processes alive. A guard process holds the other end of a pipe of ours; if we are killed
(kill -9, a closed terminal), the pipe closes and the guard ends the group.

The server has a key. Without one it would serve every user of the machine, and every web page in their browsers.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from sam3d_gs.errors import MissingPackageError, Sam3dGsError
from sam3d_gs.files import cannot_write
from sam3d_gs.redaction import redacted
from sam3d_gs.vlm.client import Client, ServerError
from sam3d_gs.vlm.gpus import GpuShare, wait_until_free
from sam3d_gs.vlm.server_keys import without_keys

log = logging.getLogger("sam3d_gs")

HOST = "127.0.0.1"
_STOP_S = 10.0  # after SIGTERM; an idle vLLM needs under one second, a busy one sometimes never ends
_STOP_STARTING_S = 2.0  # a vLLM that is still loading ignores SIGTERM
_STOP_WORKERS_S = 1.0  # after their parent has ended
_KILL_S = 10.0
_GPU_FREE_S = 30.0
_POLL_S = 0.25
_REFUSED_S = 20.0  # 401 from another server on the port, which ours notices after some 12 s and ends
_PROGRESS_S = 30.0  # between messages while it starts
_GUARD = (
    'read -r _; kill -TERM "-$0"; '
    'for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "-$0" || exit; sleep 1; done; kill -KILL "-$0"'
)

# Pattern in vLLM's log -> how to fix it.
_FIXES = (
    (
        r"gated repo|401 Client Error|403 Client Error",
        "Ask for access on the model's page, then run `hf auth login`.",
    ),
    (
        r"desired GPU memory utilization|out of memory|OutOfMemoryError",
        "Free the GPU, name others with --gpus, or spread the model with --tensor-parallel.",
    ),
    (
        r"No available memory for the cache|max seq len|KV cache",
        "Use more GPUs (--tensor-parallel), a smaller --model, or lower --max-tokens and --sent-side-px.",
    ),
    (
        r"address already in use|Errno 98",
        "Another program took the port: try again, or choose another with --port.",
    ),
    (
        r"not a valid model identifier|not a local folder|Repository Not Found|not a valid repo|Invalid repository ID",
        "Check --model.",
    ),
    (
        r"offline mode|LocalEntryNotFound|couldn't connect|ConnectionError|Name or service not known",
        "The model is not on this machine and cannot be downloaded: go online, or give --model a folder.",
    ),
)


@dataclass(frozen=True)
class Launch:
    """How to start the server."""

    command: str  # a program on PATH, or its path
    model: str  # hub id or folder
    log_file: Path
    context_tokens: int
    thinking: bool  # the model thinks first, and vLLM must separate that from the answer
    gpus: GpuShare = field(default_factory=GpuShare)
    port: int = 0  # 0: a free one
    start_timeout_s: float = 1800.0
    extra_arguments: tuple[str, ...] = ()  # for vLLM; they come after ours and override them

    def arguments(self, program: str, port: int, names: Sequence[str]) -> list[str]:
        """The command line; the server answers to all `names`."""
        arguments = [program, "serve", self.model, "--host", HOST, "--port", str(port)]
        arguments += ["--allowed-origins", "[]"]  # web pages in a browser on this machine; vLLM's default is all
        arguments += ["--served-model-name", *names]
        arguments += ["--max-model-len", str(self.context_tokens)]
        arguments += ["--limit-mm-per-prompt", '{"image":1,"video":0}']
        arguments += ["--structured-outputs-config", '{"backend":"xgrammar","disable_any_whitespace":true}']
        arguments += ["--reasoning-parser", "qwen3"] if self.thinking else []
        if self.gpus.memory_share:
            arguments += ["--gpu-memory-utilization", f"{self.gpus.memory_share:.2f}"]
        if self.gpus.count:
            arguments += ["--tensor-parallel-size", str(self.gpus.count)]
        return [*arguments, *without_keys(self.extra_arguments).plain]

    def environment(self) -> dict[str, str]:
        """The child's: ours, without the key of another server, and with one for this server."""
        keys = {"VLLM_API_KEY": os.environ.get("VLLM_API_KEY") or secrets.token_urlsafe(32)}
        keys |= without_keys(self.extra_arguments).keys
        environment = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", **keys}
        for name in ("OPENAI_API_KEY", "SAM3D_GS_VLLM_ARGS"):
            environment.pop(name, None)
        if self.gpus.ids:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus.ids)
            environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the order of nvidia-smi
        return environment


class Server:
    """A running vLLM. Use it as a context manager, or call `stop`."""

    def __init__(
        self, launch: Launch, process: subprocess.Popen[bytes], guard: subprocess.Popen[bytes], port: int, key: str
    ):
        self._launch, self._process, self._guard = launch, process, guard
        self._ready = False
        self.key = key  # to send with every request
        self.base_url = f"http://{HOST}:{port}/v1"

    @classmethod
    def start(cls, launch: Launch) -> Server:
        """Start vLLM and wait until it serves the model. Raises Sam3dGsError after stopping whatever was started."""
        program = find_program(launch.command)
        port = _free_port(launch.port)
        token = f"sam3d-gs-{secrets.token_hex(8)}"  # a model name that no other server on this port has
        environment = launch.environment()
        where = f" on GPU {', '.join(launch.gpus.ids)}" if launch.gpus.ids else ""
        log.info("Starting vLLM with %s%s (log: %s) ...", launch.model, where, launch.log_file)
        command = launch.arguments(program, port, (launch.model, token))
        process = _spawn(command, environment, launch.log_file)
        server = cls(launch, process, _spawn_guard(process.pid), port, environment["VLLM_API_KEY"].strip())
        try:
            server._wait_until_ready(token)
        except BaseException:
            server.stop()
            raise
        return server

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def check_alive(self) -> None:
        """Raises Sam3dGsError with the last error in the log if the server has died or dies within a second."""
        if _wait_for(lambda: self._process.poll() is not None, 1.0):
            raise self._died("vLLM died")

    def stop(self) -> None:
        """End the whole process group and wait until its GPU memory is free. Does nothing when called again."""
        group, started_s = self._process.pid, time.monotonic()
        was_running = self._process.poll() is None
        try:
            if was_running:
                _signal_group(group, signal.SIGTERM, only_leader=True)
                _wait_for(lambda: self._process.poll() is not None, _STOP_S if self._ready else _STOP_STARTING_S)
                _wait_for(lambda: not _alive(group), _STOP_WORKERS_S)
        finally:  # also on a second Ctrl-C
            if _alive(group):
                _signal_group(group, signal.SIGKILL)
            self._process.wait()
            self._dismiss_guard()
        if not _wait_for(lambda: not _alive(group), _KILL_S):
            log.warning("Some processes of vLLM could not be ended (process group %d).", group)
        elif was_running:
            log.info("vLLM was stopped in %.1f s.", time.monotonic() - started_s)
        if not wait_until_free(self._launch.gpus, _GPU_FREE_S):
            log.warning("GPU %s has less free memory than before vLLM ran.", ", ".join(self._launch.gpus.ids))

    def leave_running(self) -> str:
        """Leave the server running after we exit. Returns a message that says how to use and stop it."""
        self._dismiss_guard()
        pid, model = self._process.pid, shlex.quote(self._launch.model)
        return (
            f"vLLM keeps running. To use it: OPENAI_API_KEY={self._key_for_shell()} sam3d-gs phrases PHOTO "
            f"--engine openai --base-url {self.base_url} --model {model}. "
            f"To stop it: kill -TERM {pid}; sleep 10; kill -KILL -{pid}"
        )

    def _key_for_shell(self) -> str:
        """How a shell gets the key: from its owner's variable, or from a file that only the owner can read."""
        if self.key == os.environ.get("VLLM_API_KEY", "").strip():
            return '"$VLLM_API_KEY"'
        if "VLLM_API_KEY" in without_keys(self._launch.extra_arguments).keys:
            return "KEY-OF-YOUR-VLLM-ARGS"
        path = self._launch.log_file.with_name(f"vllm-{self._process.pid}.key")
        try:
            path.unlink(missing_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
                stream.write(self.key)
        except OSError as error:
            raise cannot_write(path, error) from error
        return f'"$(cat {shlex.quote(str(path))})"'

    def _wait_until_ready(self, token: str) -> None:
        """Poll until the server lists the model name `token`, the process dies, or the time is up."""
        client, started_s = Client(self.base_url, self.key), time.monotonic()
        next_message_s = _PROGRESS_S
        refused_s: float | None = None  # since when
        while True:
            if self._process.poll() is not None:
                raise self._died("vLLM did not start")
            try:
                if token in client.models(timeout_s=2.0):
                    break
            except ServerError as error:
                refused_s = (refused_s or time.monotonic()) if error.status == 401 else None
                if refused_s and time.monotonic() - refused_s > _REFUSED_S:
                    raise self._died(
                        f"The server at {self.base_url} wants another key: give that of a --config file as --api-key "
                        "in --vllm-args, or choose another --port"
                    ) from error
            waited_s = time.monotonic() - started_s
            if waited_s > self._launch.start_timeout_s:
                raise self._died(f"vLLM was not ready after {waited_s:.0f} s (--start-timeout)")
            if waited_s > next_message_s:
                log.info("vLLM is still starting (%.0f s; a first start also downloads the model) ...", waited_s)
                next_message_s += _PROGRESS_S
            time.sleep(_POLL_S)
        self._ready = True
        log.info("vLLM is ready after %.1f s.", time.monotonic() - started_s)

    def _died(self, what: str) -> Sam3dGsError:
        """`what` happened, the last error in the log, how to fix it, and where the log is."""
        tail = _tail(self._launch.log_file)
        fixes = [fix for pattern, fix in _FIXES if re.search(pattern, tail, re.IGNORECASE)]
        reason = redacted(_last_error(tail), self.key)
        return Sam3dGsError(f"{what}{reason}. {fixes[0] + ' ' if fixes else ''}Log: {self._launch.log_file}.")

    def _dismiss_guard(self) -> None:
        """Kill the guard before its pipe closes, so that it does not end the group."""
        self._guard.kill()
        self._guard.wait()
        if self._guard.stdin:
            self._guard.stdin.close()


def find_program(command: str) -> str:
    """Path of the vLLM program: on PATH, or next to this Python. Raises MissingPackageError."""
    beside = Path(sys.executable).parent / command
    found = shutil.which(command) or (str(beside) if os.access(beside, os.X_OK) and beside.is_file() else None)
    if found is None:
        raise MissingPackageError(
            f"Engine 'vllm' of phrases needs the program {command!r}, which is not in this environment. Use the "
            "environment vllm (envs/vllm.yml), give its path with --vllm-command, or use a running server with "
            "--engine openai --base-url URL."
        )
    return found


def _free_port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            raise Sam3dGsError(
                f"Port {wanted} of this machine cannot be used ({error.strerror}). Choose another --port, or leave it "
                f"out to get a free one. To use a server that runs there: --engine openai --base-url "
                f"http://{HOST}:{wanted}/v1."
            ) from error
        return int(probe.getsockname()[1])


def _spawn(command: Sequence[str], environment: dict[str, str], log_file: Path) -> subprocess.Popen[bytes]:
    try:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        log_file.unlink(missing_ok=True)  # a server left running keeps writing to the old file
        output = log_file.open("wb")
    except OSError as error:
        raise cannot_write(log_file, error) from error
    with output:
        output.write(f"$ {redacted(shlex.join(command))}\n".encode("utf-8", "replace"))
        output.flush()
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise Sam3dGsError(f"Cannot run {command[0]}: {error.strerror or error}. Check --vllm-command.") from error


def _spawn_guard(group: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, str(group)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _signal_group(group: int, number: int, only_leader: bool = False) -> None:
    with suppress(ProcessLookupError, PermissionError):  # it has ended; macOS: only zombies are left
        (os.kill if only_leader else os.killpg)(group, number)


def _alive(group: int) -> bool:
    """True while a process of the group runs. Zombies do not count: in a container nobody may ever reap them."""
    proc = Path("/proc")
    if not (proc / "self" / "stat").exists():
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                state, _, its_group = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:3]
            except (OSError, ValueError):
                continue
            if int(its_group) == group and state not in "ZX":
                return True
    return False


def _wait_for(done: Callable[[], bool], timeout_s: float) -> bool:
    end_s = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.05)
    return True


def _tail(path: Path, size: int = 65536) -> str:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - size))
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _last_error(tail: str) -> str:
    """The last line of the log that looks like an error, after a colon; "" without one."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in tail.splitlines()]
    reasons = [line for line in lines if re.search(r"\b\w*(?:Error|Exception)\b:|\berror:", line)]
    if not reasons:
        return ""
    reason = "".join(c if c.isprintable() else " " for c in reasons[-1])
    return f": {reason[-200:].rstrip('.')}"
