"""Step 2: one interface up, with an address: static, or by DHCP. Only as much network as attestation needs (BW-30).

Sources: netdevice(7), route ioctls in rtnetlink's older form (SIOCADDRT, ``struct rtentry``); DHCP: RFC 2131, options RFC 2132.
Nothing that the network says is trusted: an address that leads nowhere costs the boot, and nothing else.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from evident.errors import Indeterminate, Malformed
from evident.evidence.reader import Reader

CLASS = Path("/sys/class/net")
_SIOCADDRT, _SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x890B, 0x8913, 0x8914, 0x8916, 0x891C
_IFF_UP, _RTF_UP, _RTF_GATEWAY = 1, 1, 2
_COOKIE = b"\x63\x82\x53\x63"
_DISCOVER, _OFFER, _REQUEST, _ACK = 1, 2, 3, 5
_ARPHRD_ETHER = "1"


@dataclass(frozen=True, slots=True)
class Address:
    """IPv4; `gateway` empty for none."""

    address: str
    prefix: int
    gateway: str = ""


def parse_address(text: str) -> Address:
    """``ADDRESS/PREFIX`` or ``ADDRESS/PREFIX,GATEWAY``; raises `Malformed`."""
    own, _, gateway = text.partition(",")
    address, _, prefix = own.partition("/")
    try:
        socket.inet_pton(socket.AF_INET, address)
        if gateway:
            socket.inet_pton(socket.AF_INET, gateway)
        if not (prefix.isascii() and prefix.isdecimal() and int(prefix[:3]) <= 32):
            raise OSError
    except (OSError, ValueError):
        raise Malformed.of(
            "guest.network.address", expected="ADDRESS/PREFIX[,GATEWAY]", found=repr(text)[:60], remedy="Correct evident.network."
        ) from None
    return Address(address, int(prefix), gateway)


def interface(patience: float = 10.0) -> str:
    """The first Ethernet interface; waits for its driver. `Indeterminate` ``guest.network.interface`` when none comes."""
    deadline = time.monotonic() + patience
    while True:
        for entry in sorted(CLASS.iterdir()) if CLASS.exists() else ():
            if entry.name != "lo" and (entry / "type").read_text().strip() == _ARPHRD_ETHER:
                return entry.name
        if time.monotonic() >= deadline:
            raise Indeterminate.of(
                "guest.network.interface", expected="a network interface", found="none", remedy="Launch with a virtio network device."
            )
        time.sleep(0.02)


def bring_up(wanted: str) -> Address:
    """Loopback and the first interface up; `wanted` as ``evident.network`` has it. Raises `EvidentError` or `OSError`."""
    name = interface()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _up(control, "lo")
        _up(control, name)
        address = lease(name) if wanted == "dhcp" else parse_address(wanted)
        mask = socket.inet_ntoa(struct.pack(">I", (0xFFFFFFFF << (32 - address.prefix)) & 0xFFFFFFFF))
        for request, value in ((_SIOCSIFADDR, address.address), (_SIOCSIFNETMASK, mask)):
            fcntl.ioctl(control, request, _name(name) + _sockaddr(value).ljust(24, b"\0"))
        if address.gateway:
            any_address = _sockaddr("0.0.0.0")  # noqa: S104 - the default route, not a listener
            route = struct.pack("@Q16s16s16sHhQP", 0, any_address, _sockaddr(address.gateway), any_address, _RTF_UP | _RTF_GATEWAY, 0, 0, 0)
            fcntl.ioctl(control, _SIOCADDRT, route.ljust(120, b"\0"))
    return address


def _name(name: str) -> bytes:
    return name.encode()[:15].ljust(16, b"\0")


def _sockaddr(address: str) -> bytes:
    return struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))


def _up(control: socket.socket, name: str) -> None:
    current = fcntl.ioctl(control, _SIOCGIFFLAGS, _name(name) + bytes(24))
    (flags,) = struct.unpack_from("=H", current, 16)
    fcntl.ioctl(control, _SIOCSIFFLAGS, _name(name) + struct.pack("=H22x", flags | _IFF_UP))


def lease(name: str, patience: float = 30.0) -> Address:
    """An address by DHCP on interface `name`; `Indeterminate` ``guest.network.dhcp`` when nobody gives one."""
    hardware = bytes.fromhex((CLASS / name / "address").read_text().strip().replace(":", ""))
    deadline = time.monotonic() + patience
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
        client.bind(("0.0.0.0", 68))  # noqa: S104 - there is no address yet to bind to
        client.settimeout(1.0)
        transaction = os.urandom(4)
        question = request(_DISCOVER, hardware, transaction)
        while time.monotonic() < deadline:
            client.sendto(question, ("255.255.255.255", 67))
            try:
                kind, offered, server, found = parse_reply(client.recv(2048), transaction)
            except (TimeoutError, Malformed):
                continue
            if kind == _OFFER:
                question = request(_REQUEST, hardware, transaction, offered, server)
            elif kind == _ACK:
                return found
    raise Indeterminate.of(
        "guest.network.dhcp",
        expected="an address by DHCP",
        found="no answer",
        remedy="Give the machine a network with DHCP, or an address.",
    )


def request(kind: int, hardware: bytes, transaction: bytes, wanted: bytes = b"", server: bytes = b"") -> bytes:
    """A DHCP message of the client, asking for broadcast answers (it has no address to be reached at)."""
    head = struct.pack(">BBBB4sHH16x16s192x4s", 1, 1, 6, 0, transaction, 0, 0x8000, hardware.ljust(16, b"\0"), _COOKIE)
    options = bytes((53, 1, kind)) + bytes((55, 2, 1, 3))
    if wanted:
        options += bytes((50, 4)) + wanted + bytes((54, 4)) + server
    return (head + options + b"\xff").ljust(300, b"\0")


def parse_reply(data: bytes, transaction: bytes) -> tuple[int, bytes, bytes, Address]:
    """Kind, offered address, server and what would be configured; raises `Malformed` for what is no answer to `transaction`."""
    reader = Reader(data, "guest.dhcp")
    head, answered = reader.take(4, "head"), reader.take(4, "transaction")
    reader.take(8, "times and client address")
    offered = reader.take(4, "your address")
    reader.take(240 - reader.offset - 4, "fields")
    if head[:2] != b"\2\1" or answered != transaction or reader.take(4, "cookie") != _COOKIE:
        raise Malformed.of("guest.dhcp.form", expected="an answer to our question", found="another message", remedy="Wait for the next.")
    options: dict[int, bytes] = {}
    while reader.remaining:
        code = reader.u8("option")
        if code == 255:
            break
        if code:
            options[code] = reader.take(reader.u8("length"), "option")
    kind, mask = options.get(53, b""), int.from_bytes(options.get(1, b"\xff\xff\xff\0")[:4], "big")
    server, gateway = options.get(54, bytes(4)), options.get(3, b"")[:4]
    prefix = mask.bit_count()
    if len(kind) != 1 or len(server) != 4 or len(gateway) not in (0, 4) or mask != (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF:
        raise Malformed.of("guest.dhcp.options", expected="kind, server, mask and gateway", found="others", remedy="Wait for the next.")
    return kind[0], offered, server, Address(socket.inet_ntoa(offered), prefix, socket.inet_ntoa(gateway) if gateway else "")
