"""Whose address a request comes from."""

from __future__ import annotations

import ipaddress

from starlette.requests import HTTPConnection


def address_of(request: HTTPConnection) -> str:
    """Return the address that a request comes from; behind a proxy, that of the proxy's client."""
    peer = request.client.host if request.client else ""
    if _public(peer):
        return peer  # Not a proxy of this host: its headers may be invented.
    hops = [hop.strip() for hop in request.headers.get("x-forwarded-for", "").split(",")]
    # Each proxy appends its client's address; the first entries may be invented.
    named = [hop for hop in hops if _public(hop)] or [hop for hop in hops if hop]
    return named[-1] if named else peer


def _public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False
