"""Addresses of servers: which of them never leave this machine."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a connection to `host` (a host of a URL, without port) stays on this machine.

    Only a literal loopback address or "localhost" counts. Nothing is looked up: a name that resolves to 127.0.0.1 today
    may resolve to another machine when the connection is made.
    """
    if host.lower() == "localhost":  # not "localhost.", which some systems ask the network for
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:127.0.0.1
    return (mapped or address).is_loopback
