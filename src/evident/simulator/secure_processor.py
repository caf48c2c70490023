"""A software stand-in for AMD's secure processor: it measures launches, answers guests, and protects nothing.

Source: AMD publication 56860 "SEV Secure Nested Paging Firmware ABI Specification": SNP_LAUNCH_START/UPDATE/FINISH, the guest
messages MSG_REPORT_REQ and MSG_KEY_REQ, tables ATTESTATION_REPORT and PAGE_INFO; publication 56421 (GHCB) for the certificate
table of extended reports. Writes its own bytes throughout and shares no code with the parsers and predictors that read them.

    processor = SecureProcessor(pki, Chip(MILAN, chip_id))
    launch = processor.launch_start(policy=0x30000)
    launch.update(page_type, gpa, contents)          # as often as there are pages
    guest = launch.finish(host_data=..., id_block=..., id_auth=...)
    report, table = guest.extended_report(report_data)
    key = guest.derive_key(KeyRequest(field_select=FieldSelect.MEASUREMENT))
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum, IntFlag
from typing import Final, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from evident.errors import UsageError
from evident.evidence.snp_report import MILAN, Product, Tcb
from evident.simulator.id_block import IdAuth, IdBlock, signature_field
from evident.simulator.pki import SimulatorPki

PAGE_BYTES: Final = 4096
VMSA_GPA: Final = 0xFFFFFFFFF000
NO_MIGRATION_AGENT: Final = b"\xff" * 32
_POLICY_MUST_BE_ONE: Final = 1 << 17
_SMT, _MIGRATE_MA = 1 << 16, 1 << 18
_PLATFORM_SMT: Final = 1
# Guest policy bit to the PLATFORM_INFO bit that it demands (RAPL disabled, ciphertext hiding).
_DEMANDS = ((23, 3), (24, 4))
_ABI = (1, 58)
_VERSION_BYTES: Final = bytes((0, 58, 1, 0))  # build, minor, major
_CPUIDS = {"Milan": (0x19, 0x01, 0x01), "Genoa": (0x19, 0x11, 0x01), "Turin": (0x1A, 0x02, 0x01)}
# Order and GUIDs as in certificate tables of real hosts; the GUIDs are big endian there.
_GUIDS = {
    "ark": uuid.UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae"),
    "ask": uuid.UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782"),
    "vcek": uuid.UUID("63da758d-e664-4564-adc5-f4b93be8accd"),
    "vlek": uuid.UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1"),
}


class PageType(IntEnum):
    """PAGE_TYPE of SNP_LAUNCH_UPDATE."""

    NORMAL = 1
    VMSA = 2
    ZERO = 3
    UNMEASURED = 4
    SECRETS = 5
    CPUID = 6


class KeySelect(IntEnum):
    """KEY_SEL of guest messages: which of the chip's two signing (and root) keys."""

    DEFAULT = 0
    """The VLEK when the cloud has loaded one, else the VCEK."""
    VCEK = 1
    VLEK = 2


class FieldSelect(IntFlag):
    """GUEST_FIELD_SELECT of MSG_KEY_REQ: what beside the root the derived key depends on."""

    POLICY = 1 << 0
    IMAGE_ID = 1 << 1
    FAMILY_ID = 1 << 2
    MEASUREMENT = 1 << 3
    GUEST_SVN = 1 << 4
    TCB_VERSION = 1 << 5
    LAUNCH_MIT_VECTOR = 1 << 6


NOTHING_SELECTED: Final = FieldSelect(0)
DEFAULT_TCB: Final = Tcb(bootloader=4, tee=0, snp=24, microcode=219)


@dataclass(frozen=True, slots=True)
class Chip:
    """One simulated processor and how its host has set it up; every value may be chosen freely, as an attacker would."""

    product: Product = MILAN
    chip_id: bytes = bytes(range(1, 65))
    """64 bytes; of Turin only the first 8 are used."""
    current_tcb: Tcb = DEFAULT_TCB
    reported_tcb: Tcb | None = None
    """None: as `current_tcb`, likewise below."""
    committed_tcb: Tcb | None = None
    launch_tcb: Tcb | None = None
    platform_info: int = 0b100101
    """SMT, ECC and alias check complete."""
    cpuid: tuple[int, int, int] | None = None
    """Family, model and stepping; None for the first of the product (Bergamo is Genoa with model 0xa0)."""
    report_version: int = 5
    vlek_csp: str | None = None
    """The cloud whose VLEK is loaded, such as ``CN=cc-test.invalid``."""
    mask_chip_id: bool = False
    mask_chip_key: bool = False
    launch_mit_vector: int = 0
    current_mit_vector: int = 0

    @property
    def hwid(self) -> bytes:
        """The identity in the VCEK and in KDS requests: 64 bytes, Turin 8."""
        return self.chip_id[:8] if self.product.turin_layout else self.chip_id

    def tcb(self, name: str) -> Tcb:
        """The `current`, `reported`, `committed` or `launch` TCB, in the layout of the product."""
        own: Tcb | None = getattr(self, name + "_tcb")
        chosen = own or self.current_tcb
        return replace(chosen, fmc=(chosen.fmc or 0) if self.product.turin_layout else None)


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """MSG_KEY_REQ. `tcb_version` None means the committed TCB, the highest that may be asked for."""

    field_select: FieldSelect = NOTHING_SELECTED
    vmpl: int = 0
    guest_svn: int = 0
    tcb_version: Tcb | None = None
    launch_mit_vector: int = 0
    migration_root: bool = False
    """ROOT_KEY_SELECT: the migration agent's VMRK instead of a key of this chip."""
    key_select: KeySelect = KeySelect.DEFAULT


@dataclass(slots=True)
class _Context:
    """GCTX: what the secure processor keeps of a guest."""

    policy: int
    migration_agent: bytes
    migration_root: bytes | None
    report_id: bytes
    digest: bytes = bytes(48)
    id_block: IdBlock | None = None
    id_auth: IdAuth | None = None
    host_data: bytes = bytes(32)
    pages: set[int] = field(default_factory=set)
    finished: bool = False


def _refuse(problem: str, status: int, *, expected: str, found: str, remedy: str) -> UsageError:
    return UsageError.of(f"simulator.sp.{problem}", expected=expected, found=f"{found} (firmware status {status:#04x})", remedy=remedy)


class SecureProcessor:
    """The chip's firmware: holds keys, makes guests. `randomness(n)` gives n bytes (report ids)."""

    def __init__(self, pki: SimulatorPki, chip: Chip | None = None, *, randomness: Callable[[int], bytes] = os.urandom) -> None:
        self.chip = chip or Chip()
        self.pki = pki
        self._randomness = randomness
        if len(self.chip.chip_id) != 64:
            raise _refuse("chip", 0x16, expected="a chip id of 64 bytes", found=f"{len(self.chip.chip_id)}", remedy="Pad it with zeros.")

    def launch_start(self, policy: int, *, migration_agent: bytes | None = None, migration_root: bytes | None = None) -> Launch:
        """SNP_LAUNCH_START: a new guest under `policy`, optionally bound to a migration agent (its report id, 32 bytes)."""
        allowed = (not self.chip.platform_info & _PLATFORM_SMT or policy & _SMT) and (policy >> 8 & 0xFF, policy & 0xFF) <= _ABI
        demands = all(self.chip.platform_info >> platform & 1 for bit, platform in _DEMANDS if policy >> bit & 1)
        agent_allowed = migration_agent is None or policy & _MIGRATE_MA
        if not (policy & _POLICY_MUST_BE_ONE and allowed and demands and agent_allowed):
            raise _refuse(
                "policy",
                0x07,
                expected="a guest policy that this platform can keep",
                found=f"policy {policy:#x} on platform {self.chip.platform_info:#x}",
                remedy="Choose a policy that allows what the platform does (SMT, ABI version, migration agent).",
            )
        return Launch(self, _Context(policy, migration_agent or NO_MIGRATION_AGENT, migration_root, self._randomness(32)))

    def select(self, select: KeySelect) -> Literal["vcek", "vlek"]:
        """Which of the chip's keys a request means."""
        if select is KeySelect.VLEK and self.chip.vlek_csp is None:
            raise _refuse("key-select", 0x16, expected="a loaded VLEK", found="none", remedy="Ask for the VCEK.")
        return "vcek" if select is KeySelect.VCEK or self.chip.vlek_csp is None else "vlek"

    def sign(self, kind: Literal["vcek", "vlek"], body: bytes) -> bytes:
        """The 512-byte signature field over a report's body, by the key of REPORTED_TCB."""
        chip, tcb = self.chip, self.chip.tcb("reported")
        if kind == "vcek":
            key = self.pki.vcek_key(chip.product, chip.hwid, tcb)
        else:
            key = self.pki.vlek_key(chip.product, chip.vlek_csp or "", tcb)
        return signature_field(key.sign(body, ec.ECDSA(hashes.SHA384(), deterministic_signing=True)))

    def certificate_table(self) -> bytes:
        """What the host hands out with extended reports: ARK, ASK or ASVK, and VCEK or VLEK, DER."""
        chip, tcb = self.chip, self.chip.tcb("reported")
        if chip.vlek_csp is None:
            ask, kind, leaf = self.pki.certificate(chip.product, "ask"), "vcek", self.pki.vcek(chip.product, chip.hwid, tcb)
        else:
            ask, kind, leaf = self.pki.certificate(chip.product, "asvk"), "vlek", self.pki.vlek(chip.product, chip.vlek_csp, tcb)
        return certificate_table({"ark": self.pki.certificate(chip.product, "ark"), "ask": ask, kind: leaf})


class Launch:
    """A guest between SNP_LAUNCH_START and SNP_LAUNCH_FINISH."""

    def __init__(self, processor: SecureProcessor, context: _Context) -> None:
        self._processor = processor
        self._context = context

    @property
    def digest(self) -> bytes:
        """The launch digest so far, 48 bytes."""
        return self._context.digest

    def update(
        self, page_type: PageType | int, gpa: int, contents: bytes | memoryview = b"", *, permissions: tuple[int, int, int] = (0, 0, 0)
    ) -> None:
        """SNP_LAUNCH_UPDATE of one page; `permissions` are those of VMPL3, VMPL2 and VMPL1.

        NORMAL and VMSA pages bring their 4096 bytes; of the other types only the place is measured, and contents are not taken.
        """
        context, kind = self._context, PageType(page_type)
        measured = kind in (PageType.NORMAL, PageType.VMSA)
        taken = kind is not PageType.VMSA and gpa in context.pages
        if context.finished or gpa % PAGE_BYTES or taken or len(contents) != (PAGE_BYTES if measured else 0):
            raise _refuse(
                "launch-update",
                0x02 if context.finished else 0x16,
                expected="a page of a guest in launch, at an address not yet used, with 4096 bytes where its contents count",
                found=f"{kind.name} page at {gpa:#x} with {len(contents)} bytes" + (" after the launch" if context.finished else ""),
                remedy="Correct the launch description.",
            )
        context.pages.add(gpa)
        contents_digest = hashlib.sha384(contents).digest() if measured else bytes(48)
        # PAGE_INFO: DIGEST_CUR, CONTENTS, LENGTH, PAGE_TYPE, IMI_PAGE, VMPL3..1 permissions, reserved, GPA
        tail = struct.pack("<HBBBBBBQ", 0x70, kind, 0, *permissions, 0, gpa)
        context.digest = hashlib.sha384(context.digest + contents_digest + tail).digest()

    def finish(self, *, host_data: bytes = bytes(32), id_block: bytes | None = None, id_auth: bytes | None = None) -> Guest:
        """SNP_LAUNCH_FINISH; with an ID block, only the launch that it names may run."""
        context = self._context
        if context.finished or len(host_data) != 32 or (id_block is None) != (id_auth is None):
            raise _refuse(
                "launch-finish",
                0x16,
                expected="one finish, 32 bytes of host data, and an ID block together with its authentication or neither",
                found=f"{len(host_data)} bytes of host data",
                remedy="Correct the launch description.",
            )
        if id_block is not None and id_auth is not None:
            self._accept(IdBlock.parse(id_block), IdAuth.parse(id_auth))
        context.host_data, context.finished = host_data, True
        return Guest(self._processor, context)

    def _accept(self, block: IdBlock, auth: IdAuth) -> None:
        auth.check(block)
        context = self._context
        if (block.launch_digest, block.policy) != (context.digest, context.policy):
            raise _refuse(
                "id-block",
                0x0B,
                expected=f"the launch that the ID block names: digest {block.launch_digest.hex()}, policy {block.policy:#x}",
                found=f"digest {context.digest.hex()}, policy {context.policy:#x}",
                remedy="Launch what the guest owner signed, or have the new launch signed.",
            )
        context.id_block, context.id_auth = block, auth


class Guest:
    """A running guest's line to the secure processor. `current_vmpl` is the level that asks (whose VMPCK it uses)."""

    def __init__(self, processor: SecureProcessor, context: _Context) -> None:
        self._processor = processor
        self._context = context

    @property
    def measurement(self) -> bytes:
        return self._context.digest

    @property
    def report_id(self) -> bytes:
        return self._context.report_id

    def report(self, report_data: bytes, *, vmpl: int = 0, current_vmpl: int = 0, key_select: KeySelect = KeySelect.DEFAULT) -> bytes:
        """MSG_REPORT_REQ: 1184 bytes over `report_data` (64 bytes), speaking for `vmpl`, which no request may raise its own above."""
        self._check_vmpl(vmpl, current_vmpl)
        if len(report_data) != 64:
            raise _refuse("report", 0x16, expected="64 bytes of report data", found=f"{len(report_data)}", remedy="Hash it to SHA-512.")
        kind, masked = self._processor.select(key_select), self._processor.chip.mask_chip_key
        body = self._body(report_data, vmpl, 7 if masked else ("vcek", "vlek").index(kind))
        return body + (bytes(512) if masked else self._processor.sign(kind, body))

    def extended_report(self, report_data: bytes, *, vmpl: int = 0, current_vmpl: int = 0) -> tuple[bytes, bytes]:
        """The report and the host's certificate table."""
        return self.report(report_data, vmpl=vmpl, current_vmpl=current_vmpl), self._processor.certificate_table()

    def _body(self, report_data: bytes, vmpl: int, signing_key: int) -> bytes:
        chip, context = self._processor.chip, self._context
        block, auth = context.id_block, context.id_auth
        version = chip.report_version
        key_information = int(bool(auth and auth.author_algorithm)) | chip.mask_chip_key << 1 | signing_key << 2
        current = chip.tcb("current").serialize()
        body = bytearray(0x2A0)
        struct.pack_into("<IIQ", body, 0x000, version, block.guest_svn if block else 0, context.policy)
        struct.pack_into("<16s16sII", body, 0x010, *((block.family_id, block.image_id) if block else (b"", b"")), vmpl, 1)
        struct.pack_into("<8sQI", body, 0x038, current, chip.platform_info, key_information)
        struct.pack_into("64s48s32s", body, 0x050, report_data, context.digest, context.host_data)
        struct.pack_into("48s48s", body, 0x0E0, *((auth.id_key_digest, auth.author_key_digest) if auth else (b"", b"")))
        struct.pack_into("32s32s8s", body, 0x140, context.report_id, context.migration_agent, chip.tcb("reported").serialize())
        if version >= 3:
            struct.pack_into("BBB", body, 0x188, *(chip.cpuid or _CPUIDS[chip.product.name]))
        struct.pack_into("64s", body, 0x1A0, b"" if chip.mask_chip_id or signing_key == 1 else chip.hwid)
        struct.pack_into(
            "8s4s4s8s", body, 0x1E0, chip.tcb("committed").serialize(), _VERSION_BYTES, _VERSION_BYTES, chip.tcb("launch").serialize()
        )
        if version >= 5:
            struct.pack_into("<QQ", body, 0x1F8, chip.launch_mit_vector, chip.current_mit_vector)
        return bytes(body)

    def derive_key(self, request: KeyRequest, *, current_vmpl: int = 0) -> bytes:
        """MSG_KEY_REQ: 32 bytes that only this chip (or migration agent) gives, and only for the same selected fields."""
        context, chip = self._context, self._processor.chip
        self._check_vmpl(request.vmpl, current_vmpl)
        svn = context.id_block.guest_svn if context.id_block else 0
        committed = chip.tcb("committed")
        tcb = request.tcb_version or committed
        within = tcb.components().keys() == committed.components().keys() and all(
            value <= committed.components()[name] for name, value in tcb.components().items()
        )
        mitigations_within = not request.launch_mit_vector & ~chip.launch_mit_vector
        if request.guest_svn > svn or not within or not mitigations_within:
            raise _refuse(
                "key-request",
                0x16,
                expected=f"guest SVN up to {svn}, TCB up to {committed.components()}, mitigations within {chip.launch_mit_vector:#x}",
                found=f"SVN {request.guest_svn}, TCB {tcb.components()}, mitigations {request.launch_mit_vector:#x}",
                remedy="Ask for what this guest has, or less.",
            )
        block = context.id_block
        selectable = {
            FieldSelect.POLICY: context.policy.to_bytes(8, "little"),
            FieldSelect.IMAGE_ID: block.image_id if block else bytes(16),
            FieldSelect.FAMILY_ID: block.family_id if block else bytes(16),
            FieldSelect.MEASUREMENT: context.digest,
            FieldSelect.GUEST_SVN: request.guest_svn.to_bytes(4, "little"),
            FieldSelect.TCB_VERSION: tcb.serialize(),
            FieldSelect.LAUNCH_MIT_VECTOR: request.launch_mit_vector.to_bytes(8, "little"),
        }
        chosen = b"".join(value if select in request.field_select else bytes(len(value)) for select, value in selectable.items())
        header = struct.pack("<BBQI", request.migration_root, request.key_select, request.field_select, request.vmpl)
        return hmac.digest(self._root(request), b"simulated MSG_KEY_REQ" + header + chosen, "sha384")[:32]

    def _root(self, request: KeyRequest) -> bytes:
        if request.migration_root:
            if self._context.migration_root is None:
                raise _refuse("key-request", 0x16, expected="a VMRK of a migration agent", found="none", remedy="Use the chip's root.")
            return self._context.migration_root
        # The root does not move with REPORTED_TCB: a TCB enters only as a selected field.
        chip, kind = self._processor.chip, self._processor.select(request.key_select)
        identity = chip.hwid if kind == "vcek" else (chip.vlek_csp or "").encode()
        return self._processor.pki.derivation_root(chip.product, kind, identity)

    @staticmethod
    def _check_vmpl(vmpl: int, current_vmpl: int) -> None:
        if not 0 <= current_vmpl <= vmpl <= 3:
            raise _refuse(
                "vmpl",
                0x16,
                expected=f"a level from {current_vmpl} (the caller's own) to 3",
                found=str(vmpl),
                remedy="A less privileged level cannot speak for a more privileged one.",
            )


def certificate_table(certificates: dict[str, bytes]) -> bytes:
    """The GHCB certificate table over ``ark``, ``ask``, ``vcek``, ``vlek`` (any of them; 24-byte entries, ended by a zero entry)."""
    entries, contents = b"", b""
    start = 24 * (len(certificates) + 1)
    for name, der in certificates.items():
        entries += _GUIDS[name].bytes + struct.pack("<II", start + len(contents), len(der))
        contents += der
    return entries + bytes(24) + contents
