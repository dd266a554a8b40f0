"""The program in this process, as a user calls it."""

from __future__ import annotations

import pytest

from sam3d_gs.cli import main


def sam3d_gs(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    """Run `sam3d-gs ARGS`: exit code, stdout, stderr."""
    monkeypatch.setattr("sys.argv", ["sam3d-gs", *map(str, args)])
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    out = capfd.readouterr()
    return code, out.out, out.err
