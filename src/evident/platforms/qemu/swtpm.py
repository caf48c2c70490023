"""A TPM 2.0 of the machine's own: one swtpm process with fresh state, which ends when QEMU lets go of it.

It is software in the host's hands, and its endorsement key has no certificate: what it says is worth what binds it (`docs/platforms`).
"""

from __future__ import annotations

from typing import Final

ROLE: Final = "swtpm"
SOCKET: Final = "tpm.sock"
STATE: Final = "tpm"
"""Directory of its state, below the machine's."""


def argv(program: str = "swtpm") -> tuple[str, ...]:
    """Its command line, run in the machine's directory. Keys are made by whoever first asks for them: the guest."""
    return (program, "socket", "--tpm2", "--tpmstate", f"dir={STATE},mode=0600", "--ctrl", f"type=unixio,path={SOCKET}", "--terminate")


def device() -> tuple[str, ...]:
    """What QEMU needs to know of it."""
    return ("-chardev", f"socket,id=tpm,path={SOCKET}", "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0")
