"""What verified evidence says, in words that no vendor owns (RFC 9334).

Verification fills these; appraisal reads nothing else, so nothing above this room knows SEV-SNP from TDX. Vendor field
names appear only as *data*: keys of `registers`, `settings` and `tcb`, and in `claims`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Freshness:
    """How the evidence is tied to the verifier's own challenge."""

    scope: Literal["challenge", "boot", "unknown"]
    """``challenge``: bound to a value the verifier gave. ``boot``: made at boot, the same for everybody. ``unknown``: no
    challenge was given to compare with."""
    how: str
    """In words: "REPORT_DATA equals the challenge", "quote extraData by the paravisor's vTPM"."""
    carried_by: Literal["tee", "vtpm", "none"] = "tee"
    """Whose signature carries the challenge."""
    made_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tee:
    """The hardware root's own statement."""

    technology: str
    """``snp`` or ``tdx``; a key into the policy, never a branch."""
    vendor: str
    """Who made the root of trust: ``AMD``, ``Intel``."""
    product: str
    """``Milan``, ``Genoa``, ``Turin``; for TDX the FMSPC in hex."""
    report_key: str
    """The kind of key that signed: ``vcek``, ``vlek``, ``pck``."""
    key_holder: str | None
    """Who, other than the vendor, holds that key (a VLEK's cloud); None when it never leaves the chip."""
    identities: Mapping[str, str]
    """Names under which deny and allow lists know this machine (hex or text): ``chip_id``, ``hwid``, ``csp_id``, ``fmspc``, ``ppid``."""
    registers: Mapping[str, bytes]
    """Every signed measurement and identity value by its vendor name in snake case. Always has ``launch``."""
    privilege_level: int | None
    """Where in the guest the report was asked for (SNP: VMPL, 0 most privileged)."""
    debug: bool
    migratable: bool
    settings: Mapping[str, bool]
    """Every named switch of guest policy (``policy.smt``), platform (``platform.tsme``) and TD attributes (``attributes.perfmon``)."""
    tcb: Mapping[str, Mapping[str, int]]
    """Security version numbers: which TCB (``reported``, ``current``, ``committed``, ``launch``) to component to number."""
    tcb_status: str | None = None
    """The vendor's own word for the TCB level (Intel: ``UpToDate``...); None where the vendor publishes none."""
    advisories: tuple[str, ...] = ()
    headroom: Mapping[str, int] = field(default_factory=dict)
    """Component to how far it is above what the vendor's best level asks: 0 has nothing to spare, below 0 falls short. Empty where the
    vendor publishes no levels."""
    guest_svn: int | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One measured step of the boot."""

    name: str
    """``firmware``, ``shim``, ``bootloader``, ``uki``, ``kernel``, ``initrd``, ``cmdline``, ``verity_root_hash``..."""
    digest: bytes
    algorithm: str
    description: str = ""
    recomputable: bool = True
    """True when the log's own data yields the digest (*verified*); False when the log only says so (*asserted*)."""
    register: str = ""
    """Where it was measured: ``launch``, ``rtmr1``, ``pcr4``."""


@dataclass(frozen=True, slots=True)
class BootChain:
    """The boot as replayed from a log whose registers are authentic, or as stated and proved by the launch digest."""

    measured_by: Literal["tee", "vtpm"]
    stages: tuple[Stage, ...]
    registers: Mapping[str, bytes]
    """The authentic register values that the stages were replayed against, ``pcr4`` or ``rtmr1`` to value."""
    secure_boot: bool | None = None
    command_line: str | None = None
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Vtpm:
    """A virtual (or physical) TPM whose quote was verified."""

    location: Literal["hypervisor", "host", "paravisor", "svsm", "chip", "unknown"]
    anchor: Literal["tee", "certificate", "operator", "none"]
    """``tee``: its key is bound by the TEE's signed report. ``certificate``: a CA vouches for the key. ``operator``: who runs it names its
    endorsement key, and signed nothing. ``none``: bare key."""
    operator: str
    """The party whose word the quote is: the provider, the paravisor's maker, the SVSM's maker."""
    pcrs: Mapping[str, Mapping[int, bytes]]
    """Bank (``sha256``) to PCR index to value; only values that the quote's digest covers."""
    key_name: bytes = b""
    instance: Mapping[str, str] = field(default_factory=dict)
    """Instance identity in the AK certificate, by its own words (``project_id``, ``zone``, ``instance_id``)."""
    ek_name: bytes = b""
    """Name of the endorsement key whose TPM was shown to hold the quoting key; empty where nothing was shown."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """User space as loaded: a replayed IMA list."""

    entries: int
    """Files that were measured."""
    violations: int
    unlisted: tuple[str, ...] = ()
    """Paths whose digest no allow-list names."""
    gaps: tuple[str, ...] = ()
    """What IMA cannot see, always printed (AT-33)."""
    violated: tuple[str, ...] = ()
    """Paths that the violations name."""


@dataclass(frozen=True, slots=True)
class StatedLaunch:
    """What the guest or its host *says* was launched: worth nothing until it reproduces a measured register.

    `components` are digests by stage name, exactly as a launch measurement hashes them (SNP kernel hashes: SHA-256).
    """

    components: Mapping[str, bytes]
    command_line: str | None = None
    vcpus: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything authentic that one collection of evidence says."""

    kind: str
    technology: str | None
    freshness: Freshness
    tee: Tee | None = None
    vtpm: Vtpm | None = None
    boot: BootChain | None = None
    runtime: Runtime | None = None
    stated_launch: StatedLaunch | None = None
    bound_key: bytes | None = None
    """Digest or SPKI (DER) of the key bound into the evidence beside the challenge, if any."""
    caveats: tuple[str, ...] = ()
    """Coded remarks of the verification that the statement must repeat (``vlek.cloud-not-chip``)."""
    claims: Mapping[str, Any] = field(default_factory=dict)
    """The vendor's own field names and values, JSON-ready, as ``docs/json.md`` lists them."""

    @property
    def identities(self) -> dict[str, str]:
        """Everything that identifies this machine, by name, hex or text. What is all zeros (masked, never set) identifies nobody."""
        tee, vtpm = self.tee, self.vtpm
        known = {} if tee is None else {**{name: value.hex() for name, value in tee.registers.items()}, **tee.identities}
        if vtpm is not None:
            known |= {**vtpm.instance, "ek_name": vtpm.ek_name.hex()}
        return {name: value for name, value in known.items() if value.strip("0")}
