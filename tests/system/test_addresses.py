"""Which addresses stay on this machine."""

from __future__ import annotations

import pytest

from sam3d_gs.system.addresses import is_loopback


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.1", "::1", "[::1]", "::ffff:127.0.0.1"]
)
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1.evil.com",
        "localhost.evil.com",
        "localhost.",
        "evil-localhost",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "192.168.1.2",
        "169.254.169.254",
        "::",
        "fe80::1%lo",
        "::ffff:10.0.0.1",
        "",
    ],
)
def test_anything_else_may_be_another_machine(host: str) -> None:
    assert not is_loopback(host)
