"""A proxy between a machine and its owner: a key server of its own towards the one, an agent towards the other (AT-03).

Against a machine as its owner launched it, it gets nothing but refused: ``test_between.test_an_impostor``. Here the host has edited the
command line, so that the machine looks for the proxy.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.boot import test_between
from tests.boot.test_between import Host

from evident.cli.main import main
from evident.evidence import binding
from evident.evidence import disk as partitions
from evident.image import names, seal
from evident.keys import exchange, release
from evident.keys.exchange import spki
from evident.keys.messages import CHALLENGE, EVIDENCE, ChallengeReply, Done, EvidenceReply, EvidenceRequest, Volume, dumps, loads
from evident.lifecycle.deployment import Deployment
from evident.platforms.qemu import launch
from evident.platforms.qemu.order import Launch

pytestmark = pytest.mark.life
Desk = Any  # of conftest.py
stand_between = test_between.stand_between


class Proxy:
    """Its key server has a key and a disk of its own."""

    def __init__(self, image: Path) -> None:
        self._image = image
        self._own = ec.generate_private_key(ec.SECP384R1())
        self._disk_key = os.urandom(64)

    def change(self, _shop: Deployment, ordered: Launch) -> Launch:
        """Its own key server on the command line, and the image's root under its own key on the disk."""
        pin = hashlib.sha256(spki(self._own.public_key())).hexdigest()
        with Path(ordered.disks[0].path).open("r+b") as stream:
            table, sector = partitions.read_partition_table(stream.read(1 << 20))
            data = next(each for each in table.partitions if each.name == "data")
            content = (self._image / names.ROOT).read_bytes() + (self._image / names.HASH).read_bytes()
            room = (data.last - data.first + 1) * sector
            seal.seal(content, self._disk_key, stream, at=data.first * sector, room=room, identifier=uuid.uuid4(), random=os.urandom)
        return replace(ordered, command_line=re.sub(r"(?<=evident\.key=)[0-9a-f]{64}", pin, ordered.command_line))

    def answering(self, path: str, body: bytes) -> bytes:
        """The owner's challenge, as if it were its own."""
        return dumps(replace(loads(ChallengeReply, body), key_server_public=spki(self._own.public_key()))) if path == CHALLENGE else body

    def despite(self, path: str, said: bytes) -> bytes:
        """A key in the place of the owner's refusal."""
        if path != EVIDENCE:
            return dumps(Done(1))
        asked = loads(EvidenceRequest, said)
        secret, bound = dumps(Volume(1, asked.disk, self._disk_key)), binding.key_digest(asked.key)
        sealed = exchange.seal(secret, nonce=asked.nonce, guest=asked.key, bound_key=bound, statement=bytes(32), signer=self._own)
        return dumps(EvidenceReply(1, sealed.offer))


@pytest.mark.attack("AT-03", "The same proxy, with its own key server on the machine's command line.", "launch.cmdline")
def test_a_proxy(
    desk: Desk,
    cheat: Callable[[Any], None],
    server_here: Any,
    stand_between: Callable[[Host], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The machine takes the proxy for its key server, for nothing but its command line says who that is, and runs on the proxy's key. Its
    owner, of whom the proxy asks a key in the machine's name, sees the command line in the measurement; and believes all of it without.
    """
    proxy = Proxy(desk.image)
    cheat(proxy.change)
    stand_between(Host(answering=proxy.answering, despite=proxy.despite))
    assert desk.up("shop") == 11, "its owner asks the machine itself, and not the console"
    shop = desk.shop("shop")
    assert any(launch.READY in text for text in desk.console(shop)), "the machine is the proxy's"
    assert desk.events[:2] == ["challenged", "denied"]
    assert "launch.cmdline" in desk.log[1].codes
    capsys.readouterr()
    assert main(["attest", "shop", "-o", "json"]) == 11
    assert "launch.cmdline" in {finding["code"] for finding in json.loads(capsys.readouterr().out)["findings"]}
    monkeypatch.setattr(release, "check_accepted", lambda *_: None)
    server_here.decide_again()
    assert desk.events[-1] == "released"
