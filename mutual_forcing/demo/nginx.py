"""The configuration of nginx before several replicas of the page (nginx.conf)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_TEMPLATE = Path(__file__).with_name("nginx.conf")
_ADDRESS = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):\d{1,5}")


def configuration(
    replicas: Sequence[str],
    listen: str,
    folder: Path,
    *,
    upload_mb: int = 200,
    errors: str = "stderr",
    behind_proxy: bool = False,
) -> str:
    """Return the text of an nginx.conf.

    Args:
        replicas: addresses "host:port" of the running pages.
        listen: the address "host:port" at which nginx shall be.
        folder: where nginx may keep its process id and what it cannot keep in memory.
        upload_mb: the largest upload, as MF_MAX_UPLOAD_MB.
        errors: file of nginx's errors.
        behind_proxy: another proxy stands before this one, and has appended its client's address to
            X-Forwarded-For: nobody else can reach this port.

    Raises:
        ValueError: there is no replica, or an address is none.
    """
    if not replicas:
        raise ValueError("nginx needs at least one replica to send visitors to.")
    for address in (*replicas, listen):
        if not _ADDRESS.fullmatch(address):
            raise ValueError(f"{address!r} is no address: give HOST:PORT.")
    numbers = range(1, len(replicas) + 1)
    # A lost replica's visitors go to the others until it answers again; five seconds pass between tries.
    server = "server {} max_fails=1 fail_timeout=5s"
    upstreams = [
        " ".join(
            [f"  upstream replica_{number} {{ {server.format(own)};"]
            + [f"{server.format(other)} backup;" for other in replicas if other != own]
            + ["}"]
        )
        for number, own in zip(numbers, replicas, strict=True)
    ]
    values = {
        "FOLDER": str(folder),
        "ERRORS": errors,
        "UPSTREAMS": "\n".join(upstreams),
        "SERVERS": " ".join(f"{server.format(address)};" for address in replicas),
        "COOKIES": " ".join(f"{number} replica_{number};" for number in numbers),
        "NUMBERS": " ".join(
            f'"~(^|[ ,]){re.escape(address)}$" {number};'
            for number, address in zip(numbers, replicas, strict=True)
        ),
        "LISTEN": listen,
        "UPLOAD_MB": str(upload_mb + 1),
        "FORWARDED_FOR": "$proxy_add_x_forwarded_for" if behind_proxy else "$remote_addr",
        "FORWARDED_PROTO": "$http_x_forwarded_proto" if behind_proxy else "$scheme",
    }
    text = _TEMPLATE.read_text(encoding="utf-8")
    return re.sub(r"@([A-Z_]+)@", lambda match: values.get(match[1], match[0]), text)
