"""What lifecycle asks of a platform that can launch machines; ``platforms/<name>/launch.py`` answers with a `Driver`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:  # a contract in words of other rooms: whoever only states an order loads none of them
    from evident.appraisal.policy import Policy
    from evident.endorsements.anchors import Anchor
    from evident.endorsements.fetcher import Fetcher
    from evident.platforms.order import Order
    from evident.reference_values.model import ReferenceSet
    from evident.verification.credential import NamedKey
    from evident.verification.pieces import Pieces

KEY_SERVER: Final = "10.0.2.100:8443"
"""Where a guest finds its key server on a network of the platform's own: always the same, because it is on the measured command line."""
SPIRE_SERVER: Final = "10.0.2.101:8081"
"""Where it finds the owner's spire-server there, likewise."""
PORT_FILE: Final = "keyserver.port"
"""In the machine's directory: the port of 127.0.0.1 at which its key server listens now."""
SPIRE_FILE: Final = "spire.address"
"""In the machine's directory: ``ADDRESS:PORT`` where spire-server listens now, for a machine that needs it."""
GENERATION: Final = "generation_"
"""Begins the name of the directory of each machine but the first, with its number. No deployment's name holds an underscore."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a driver depends on besides its order."""

    state: Path
    """The user's state directory."""
    clock: Callable[[], datetime]
    randomness: Callable[[int], bytes]
    progress: Callable[[str], None]
    """Told, in a sentence, of anything that takes more than a moment."""
    wrapping_key: Path | None = None
    """File with the key that wraps disk keys, where the owner keeps it apart from them; None: beside them."""
    vault: Path | None = None
    """Document that says where the owner's Vault or OpenBao is (`evident.keys.vault_document`), where disk keys are kept there."""
    spire: Path | None = None
    """Document that says where the owner's spire-server is (`evident.identity.spire_document`), for images with SPIRE's agent."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the owner knows of the machine without asking it."""

    references: ReferenceSet
    policy: Policy
    """For whoever gave none of their own: strict, and demanding what the reference values can prove."""


Activate = Callable[[bytes, bytes], bytes | None]
"""From a credential (TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET) to the answer of the machine's TPM for the challenge just answered
(`evident.evidence.binding.credential_answer`); None where it cannot answer."""


@dataclass(frozen=True, slots=True)
class Collected:
    """A machine's answer to one challenge."""

    kind: str
    """Verification procedure for `pieces`."""
    pieces: Pieces
    activate: Activate | None = None
    """How to ask the same machine the second question; None where nobody there answers it."""
    certificates: tuple[bytes, ...] = ()
    """As in `evident.keys.messages.AttestReply`: no evidence, but signed by the key that the evidence binds."""


@dataclass(frozen=True, slots=True)
class Believed:
    """Whom verification has to believe on this platform beyond the production roots; empty on all but the simulator."""

    anchors: tuple[Anchor, ...] = ()
    unsafe: frozenset[str] = frozenset()
    fetcher: Fetcher | None = None
    """Where endorsements come from; None: the vendors."""


def whose(machine: Path) -> tuple[str, int]:
    """The deployment and the number of the machine whose directory this is: ``NAME/machine``, or ``NAME/generation_2/machine``."""
    home = machine.parent
    if home.name.startswith(GENERATION):
        return home.parent.name, int(home.name.removeprefix(GENERATION))
    return home.name, 1


class Driver(Protocol):
    """`machine` is a directory of the platform's own, in that of the deployment (`whose`); it is kept until `destroy`.
    Every call may be repeated after a crash.
    """

    def profile(self, machine: Path) -> str:
        """Id of the profile that this machine is to be judged by."""
        ...

    def parameters(self, machine: Path) -> Mapping[str, str]:
        """Kernel parameters that tell Evident's guest where it runs; they go onto its measured command line, whatever it boots from."""
        ...

    def room(self, machine: Path, order: Order) -> bool:
        """Whether what is ordered can run beside `machine`, or only after that was halted."""
        ...

    def launch(self, machine: Path, order: Order) -> Expectation:
        """Make and start the machine."""
        ...

    def settle(self, machine: Path) -> None:
        """Wait until it has booted, telling of its progress. Raises `PolicyRefused` with the code of what ended the boot."""
        ...

    def start(self, machine: Path) -> None:
        """Start a launched machine again where it has stopped, as it is on record; silent where it runs."""
        ...

    def halt(self, machine: Path) -> None:
        """Tell the machine to end, and see to it that it does; what is on record of it stays."""
        ...

    def collect(self, machine: Path, nonce: bytes) -> Collected:
        """Ask the machine for evidence that answers `nonce`."""
        ...

    def believed(self, machine: Path) -> Believed: ...

    def endorsement_key(self, machine: Path) -> NamedKey | None:
        """Which endorsement key the machine's TPM has by the platform's own word; None where it says nothing of it."""
        ...

    def parts(self, machine: Path) -> Mapping[str, bool]:
        """Each process of the machine on this host, and whether it runs; empty where there are none to look after."""
        ...

    def addresses(self, machine: Path) -> Mapping[int, str]:
        """Each published port of the running machine and where it is reached from this host, ``127.0.0.1:40123``."""
        ...

    def destroy(self, machine: Path) -> None:
        """Stop the machine and remove everything that `launch` made."""
        ...


DriverFactory = Callable[[Surroundings], Driver]
"""Each ``platforms/<name>/launch.py`` has one, called ``driver``."""
