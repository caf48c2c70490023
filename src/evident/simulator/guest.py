"""A confidential VM on the simulated secure processor: it holds a key of its own and answers challenges with evidence.

Everything about it follows from `VmState`, so a VM that one process launched is the same VM in the next.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evident import codec
from evident.evidence import binding
from evident.simulator.pki import SimulatorPki
from evident.simulator.secure_processor import Chip, Guest, SecureProcessor
from evident.simulator.vmm import LaunchDescription, boot
from evident.verification.facts import StatedLaunch
from evident.verification.pieces import Pieces

_KEY_LABEL = b"evident simulated guest key"


@dataclass(frozen=True, slots=True)
class VmState:
    """What makes this VM and no other."""

    report_id: bytes
    """32 random bytes of its launch; its key follows from them, for nothing here is secret."""


def stated_launch(description: LaunchDescription) -> StatedLaunch:
    """What a host or guest says was launched: the digests as the firmware gets them."""
    hashes = description.hashes()
    return StatedLaunch(hashes.components() if hashes else {}, description.command_line if hashes else None, description.vcpus)


class SimulatedVm:
    """A running VM. `stated` is what it says of its own launch, None for nothing; it need not be true."""

    def __init__(
        self,
        pki: SimulatorPki,
        chip: Chip,
        launched: LaunchDescription,
        state: VmState,
        *,
        stated: StatedLaunch | None = None,
        certificates_of: Chip | None = None,
    ) -> None:
        processor = SecureProcessor(pki, chip, randomness=lambda count: state.report_id[:count])
        self.guest: Guest = boot(processor, launched)
        self._table = SecureProcessor(pki, certificates_of or chip).certificate_table()
        self._stated = stated
        secret = pki.derivation_root(chip.product, "vcek", _KEY_LABEL + state.report_id)
        self.key = ec.derive_private_key(int.from_bytes(secret, "big") | 1, ec.SECP384R1())

    @property
    def spki(self) -> bytes:
        """The public key that the guest binds to every answer, DER."""
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def collect(self, nonce: bytes, *, vmpl: int = 0) -> Pieces:
        """Evidence for the verifier's `nonce`: report, certificate table, the key it binds, and the stated launch.

        REPORT_DATA is that of `evident.evidence.binding`; roles are those of kind ``snp``.
        """
        report = self.guest.report(binding.report_data(nonce, self.spki), vmpl=vmpl, current_vmpl=vmpl)
        pieces = {"report": (report,), "auxblob": (self._table,), "key": (self.spki,)}
        if self._stated is not None:
            pieces["launch"] = (json.dumps(codec.encode(self._stated), sort_keys=True).encode(),)
        return pieces
