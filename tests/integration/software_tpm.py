"""A TPM 2.0 in software (swtpm), spoken to as a guest speaks to its character device."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from evident.guest.tpm_device import Transact


def software_tpm(folder: Path) -> Iterator[Transact]:
    """A started TPM with its state in `folder`, for as long as the generator is not done."""
    words = ("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}", "--server", f"type=unixio,path={folder}/sock")
    process = subprocess.Popen([*words, "--flags", "not-need-init,startup-clear"])
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        for _ in range(200):
            if (folder / "sock").exists():
                break
            time.sleep(0.02)
        stream.connect(str(folder / "sock"))
        stream.settimeout(30)

        def exchange(command: bytes) -> bytes:
            stream.sendall(command)
            return stream.recv(4096)

        yield exchange
    finally:
        stream.close()
        process.terminate()
        process.wait(10)
