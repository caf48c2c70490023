"""Units with X.509-SVIDs of their own, from the real agent of a machine that has booted: who gets whose, and what else of it they reach."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.boot import test_spire

from evident.cli.main import main
from evident.lifecycle import enrolment

if TYPE_CHECKING:
    from tests.spire.real import Spire

pytestmark = pytest.mark.slow
built, owned = test_spire.built, test_spire.owned
ASKING = """
import os, socket, struct, sys, time

def frame(kind, flags, stream, data):
    return struct.pack(">I", len(data))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + data

def literal(name, value):
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()

HEADERS = {":method": "POST", ":scheme": "http", ":path": "/SpiffeWorkloadAPI/FetchX509SVID", ":authority": "localhost", "te": "trailers"}
HEADERS |= {"content-type": "application/grpc", "workload.spiffe.io": "true"}

def varint(data):
    value = shift = 0
    for at, byte in enumerate(data):
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, data[at + 1:]

def fields(data):
    while data:
        tag, data = varint(data)
        size, data = varint(data)
        yield tag >> 3, data[:size]
        data = data[size:]

def ask():
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(30)
        stream.connect("/run/spire/agent.sock")
        stream.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + frame(4, 0, 0, b""))
        stream.sendall(frame(1, 4, 1, b"".join(literal(*each) for each in HEADERS.items())) + frame(0, 1, 1, bytes(5)))
        reading = stream.makefile("rb")
        while True:
            head = reading.read(9)
            if len(head) < 9:
                return "nobody there"
            data = reading.read(int.from_bytes(head[:3], "big"))
            if head[3] == 0:
                svids = [dict(fields(each)) for number, each in fields(data[5:]) if number == 1]
                return " ".join(sorted(svid[1].decode() for svid in svids))
            if head[3] == 1 and head[4] & 1:
                return "refused"

def readable():
    pids = [each for each in os.listdir("/proc") if each.isdigit() and open(f"/proc/{each}/comm").read().strip() == "spire-agent"]
    places = ["/run/spire/data", *(f"/proc/{each}/{what}" for each in pids for what in ("root", "mem", "environ", "fd", "ns/mnt"))]
    for place in places:
        try:
            (os.listdir if os.path.isdir(place) or place.endswith(("root", "fd")) else open)(place)
            yield place
        except PermissionError:
            pass
    for each in pids:
        try:
            os.kill(int(each), 9)
            yield "kill"
        except PermissionError:
            pass

said = None
while True:
    try:
        found = ask()
    except OSError as error:
        found = "nobody there"
    if found != said:
        said = found
        print(sys.argv[1], os.environ.get("SPIFFE_ENDPOINT_SOCKET"), os.getuid(), "is", found, flush=True)
        if sys.argv[1] == "neighbour" and found == "refused":
            print("neighbour reads", sorted(readable()), "of", sorted(os.listdir("/run/spire")), flush=True)
    time.sleep(1)
"""
NODE, WHO = "spiffe://example.org/evident/shop/machine/1", "spiffe://example.org/evident/shop/unit/who"
SOCKET = "unix:///run/spire/agent.sock"


def asking(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "command": ["/usr/bin/python3", "-Ic", ASKING, name], **more}


@pytest.mark.attack("AT-44", "An entry of a unit demands its program alone; its neighbour runs the same.", "svid.none")
def test_each_unit_is_who_it_is(owned: Any, built: Path, spire: Spire, eventually: Callable[..., None]) -> None:
    """BW-18, SP-23: by the kernel's word of whose process asks; and only until the machine's entries are removed."""
    test_spire.specify(built / "units.json", spire.bundle_pem)
    said = json.loads((built / "units.json").read_text())
    said |= {"ima": True, "units": [asking("who", svid=True), asking("neighbour"), *said["units"]]}
    (built / "units.json").write_text(json.dumps(said))
    shutil.copy(built / "desk.lock.json", built / "units.lock.json")
    test_spire.build(built, "units")
    units = replace(owned, image=built / "units.image")
    shop = units.shop("shop")
    assert units.up("shop") == 0

    def says(line: str) -> Callable[[], bool]:
        return lambda: any(line in text for text in units.console(shop))

    eventually(says(f"who {SOCKET} 1000 is {WHO}"), "an SVID")
    eventually(says("neighbour None 1001 is refused"), "a refusal")
    eventually(says("neighbour reads [] of ['agent.sock', 'data']"), "a look around")
    eventually(says("No identity issued"), "the agent's own word")
    assert main(["attest", "shop"]) == 0, "nothing was loaded for it that is not the image's"
    loose = spire.entry("/loose", ["unix:path:/usr/bin/python3.13"], parent=NODE)
    eventually(says("neighbour None 1001 is spiffe://example.org/loose"), "what an entry without a user gives away")
    spire.cli("entry", "delete", "-entryID", loose)
    (disk,) = enrolment._kept(shop).machines
    enrolment.remove(shop, disk)
    again = re.compile(rf"unit spire-agent ended: .*unit spire-agent started: .*who {SOCKET} 1000 is refused", re.DOTALL)
    eventually(lambda: again.search("\n".join(units.console(shop))) is not None, "the same machine attested again, and given no name")
