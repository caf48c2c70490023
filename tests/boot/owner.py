"""Somebody who types commands about one deployment document, on this host, as boot tests do."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evident.cli.main import main
from evident.errors import EvidentError
from evident.image import names
from evident.lifecycle.deployment import Deployment

Desk = Any  # of conftest.py


def digest(image: Path) -> str:
    with (image / names.DISK).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Owner:
    """Types commands about one document."""

    def __init__(self, desk: Desk, capsys: pytest.CaptureFixture[str], eventually: Callable[..., None]) -> None:
        self.path: Path = desk.home / "shop.yaml"
        self._desk, self._capsys, self._eventually = desk, capsys, eventually

    @property
    def shop(self) -> Deployment:
        shop: Deployment = self._desk.shop("shop")
        return shop

    def write(self, image: dict[str, str], **changes: Any) -> None:
        """A document for this host; `changes` are keys of it."""
        least = {
            "version": 1,
            "name": "shop",
            "image": image,
            "platform": "qemu",
            "size": {"memory_mib": 768},
            "network": {"inbound": [{"port": 8080, "peer": "127.0.0.1/32"}]},
            "policy": {"version": 1, "levels": {"nominal": 4, "trustworthy": 4}, "allow_simulated": True},
        }
        self.path.write_text(json.dumps({**least, **changes}))

    def types(self, *words: str, code: int = 0) -> tuple[str, str]:
        """Both outputs."""
        self._capsys.readouterr()
        assert main(list(words)) == code
        said = self._capsys.readouterr()
        return said.out, said.err

    def asks(self, *words: str, code: int = 0) -> Any:
        return json.loads(self.types(*words, "-o", "json", code=code)[0])

    def kills_up(self, moment: Callable[[], bool]) -> None:
        """`evident up`, ended by SIGKILL as soon as `moment` has come."""
        words = [sys.executable, "-m", "evident", "up", str(self.path)]
        with subprocess.Popen(words, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as command:
            self._eventually(lambda: moment() or command.poll() is not None, "the moment to kill it")
            assert command.poll() is None, "it ended before"
            command.kill()

    def page(self) -> bytes:
        """What the workload serves; nothing while it is starting."""
        try:
            address = self.shop.driver().addresses(self.shop.machine)[8080]
            with urllib.request.urlopen(f"http://{address}/", timeout=20) as answer:  # an address of ours
                content: bytes = answer.read()
                return content
        except (OSError, KeyError, EvidentError):
            return b""
