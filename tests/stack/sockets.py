"""On what addresses processes listen, as the kernel tells it."""

import os
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

LISTENS = "0A"


def listened_to(processes: Iterable[int]) -> set[tuple[str, int]]:
    """Give the addresses and ports on which processes wait for connections."""
    mine = set()
    for pid in processes:
        with suppress(OSError):
            mine |= {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, port = fields[1].split(":")
            if fields[3] == LISTENS and f"socket:[{fields[9]}]" in mine:
                found.add((address_of(address), int(port, 16)))
    return found


def address_of(written: str) -> str:
    """Read an address as the kernel writes it: words of four bytes, each backwards; IPv4 within IPv6 as IPv4."""
    words = [bytes.fromhex(written[at : at + 8])[::-1] for at in range(0, len(written), 8)]
    found = ip_address(b"".join(words))
    return str((found.version == 6 and found.ipv4_mapped) or found)
