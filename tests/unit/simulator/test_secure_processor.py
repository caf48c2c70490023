"""The stand-in behaves as the firmware ABI says, to bytes and to refusals."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from hypothesis import given
from hypothesis import strategies as st

from evident.endorsements import amd
from evident.errors import Malformed, UsageError
from evident.evidence import cert_table, snp_report
from evident.evidence.snp_report import GENOA, MILAN, PRODUCTS, TURIN, Product, SigningKey, Tcb
from evident.simulator.pki import SimulatorPki
from evident.simulator.secure_processor import (
    NO_MIGRATION_AGENT,
    Chip,
    FieldSelect,
    Guest,
    KeyRequest,
    KeySelect,
    PageType,
    SecureProcessor,
)

POLICY = 0x30000
DATA = bytes(range(64))
CSP = "CN=cc-test.invalid"


def launch(pki: SimulatorPki, chip: Chip | None = None, *, policy: int = POLICY, page: bytes = bytes(4096), **finish: Any) -> Guest:
    processor = SecureProcessor(pki, chip, randomness=lambda count: b"\x5a" * count)
    launching = processor.launch_start(policy)
    launching.update(PageType.NORMAL, 0x1000, page)
    return launching.finish(**finish)


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
@pytest.mark.parametrize("version", snp_report.VERSIONS)
@pytest.mark.parametrize("csp", [None, CSP])
def test_reports_of_every_version_product_and_key(simulator_pki: SimulatorPki, product: Product, version: int, csp: str | None) -> None:
    chip = Chip(
        product,
        report_version=version,
        vlek_csp=csp,
        mask_chip_id=csp is not None,
        launch_mit_vector=5,
        current_mit_vector=7,
        current_tcb=Tcb(4, 1, 24, 219, 3),
        reported_tcb=Tcb(3, 1, 23, 218, 2),
        committed_tcb=Tcb(2, 1, 22, 217, 1),
        launch_tcb=Tcb(1, 1, 21, 216, 0),
    )
    guest = launch(simulator_pki, chip, host_data=b"\x11" * 32)
    raw, table = guest.extended_report(DATA, vmpl=2)
    if version == 2 and product is TURIN and csp:
        with pytest.raises(Malformed):  # without chip id and CPUID nothing says Turin, and its TCBs fit no other layout
            snp_report.parse(raw)
        return
    report = snp_report.parse(raw)
    assert snp_report.serialize(report) == raw
    assert (report.version, report.policy, report.vmpl, report.report_data, report.host_data) == (version, POLICY, 2, DATA, b"\x11" * 32)
    assert (report.measurement, report.report_id, report.report_id_ma) == (guest.measurement, b"\x5a" * 32, NO_MIGRATION_AGENT)
    for name in ("current", "reported", "committed", "launch"):
        assert getattr(report, f"{name}_tcb") == chip.tcb(name), name
    assert report.signing_key is (SigningKey.VLEK if csp else SigningKey.VCEK)
    assert report.product is product or (version == 2 and (report.product is None or product is TURIN))
    assert (report.launch_mit_vector, report.current_mit_vector) == ((5, 7) if version >= 5 else (None, None))
    assert report.chip_id == (bytes(64) if csp else chip.hwid.ljust(64, b"\0"))

    key = amd.load_endorsement_key(cert_table.parse(table).get("vlek" if csp else "vcek") or b"")
    assert (key.tcb, key.product) == (report.reported_tcb, product)
    public = key.certificate.public_key
    assert isinstance(public, ec.EllipticCurvePublicKey)
    signature = utils.encode_dss_signature(report.signature_r, report.signature_s)
    public.verify(signature, report.signed, ec.ECDSA(hashes.SHA384()))
    with pytest.raises(InvalidSignature):
        public.verify(signature, report.signed[:-1] + b"\1", ec.ECDSA(hashes.SHA384()))


def test_the_same_randomness_gives_the_same_bytes(simulator_pki: SimulatorPki) -> None:
    assert launch(simulator_pki).report(DATA) == launch(simulator_pki).report(DATA)


def test_the_digest_is_the_chain_that_the_specification_writes_out(simulator_pki: SimulatorPki) -> None:
    launching = SecureProcessor(simulator_pki).launch_start(POLICY)
    page = bytes(range(256)) * 16
    launching.update(PageType.NORMAL, 0xFFFFF000, page, permissions=(0xF, 0x7, 0x1))
    info = bytes(48) + hashlib.sha384(page).digest() + bytes.fromhex("7000 01 00 0f 07 01 00 00f0ffff00000000")
    assert len(info) == 0x70
    assert launching.digest == hashlib.sha384(info).digest()
    before = launching.digest
    launching.update(PageType.CPUID, 0x1000)
    info = before + bytes(48) + bytes.fromhex("7000 06 00 00 00 00 00 0010000000000000")
    assert launching.digest == hashlib.sha384(info).digest()


def test_every_input_of_a_page_changes_the_digest(simulator_pki: SimulatorPki) -> None:
    def digest(kind: PageType, gpa: int, contents: bytes, permissions: tuple[int, int, int] = (0, 0, 0)) -> bytes:
        launching = SecureProcessor(simulator_pki).launch_start(POLICY)
        launching.update(kind, gpa, contents, permissions=permissions)
        return launching.digest

    digests = [
        digest(PageType.NORMAL, 0, bytes(4096)),
        digest(PageType.NORMAL, 0, b"\1" + bytes(4095)),
        digest(PageType.NORMAL, 0x1000, bytes(4096)),
        digest(PageType.VMSA, 0, bytes(4096)),
        *(digest(kind, 0, b"") for kind in (PageType.ZERO, PageType.UNMEASURED, PageType.SECRETS, PageType.CPUID)),
        *(digest(PageType.ZERO, 0, b"", permissions) for permissions in ((1, 0, 0), (0, 1, 0), (0, 0, 1))),
    ]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    ("kind", "gpa", "contents"),
    [
        (PageType.NORMAL, 0x1000, bytes(4096)),  # twice the same place
        (PageType.NORMAL, 0x2001, bytes(4096)),
        (PageType.NORMAL, 0x2000, bytes(4095)),
        (PageType.NORMAL, 0x2000, b""),
        (PageType.ZERO, 0x2000, bytes(4096)),
    ],
)
def test_launch_updates_that_are_refused(simulator_pki: SimulatorPki, kind: PageType, gpa: int, contents: bytes) -> None:
    launching = SecureProcessor(simulator_pki).launch_start(POLICY)
    launching.update(PageType.NORMAL, 0x1000, bytes(4096))
    before = launching.digest
    with pytest.raises(UsageError, match=r"simulator\.sp\.launch-update"):
        launching.update(kind, gpa, contents)
    assert launching.digest == before


def test_nothing_is_added_to_a_finished_launch(simulator_pki: SimulatorPki) -> None:
    launching = SecureProcessor(simulator_pki).launch_start(POLICY)
    launching.finish()
    with pytest.raises(UsageError, match="launch-update"):
        launching.update(PageType.ZERO, 0)
    with pytest.raises(UsageError, match="launch-finish"):
        launching.finish()


@pytest.mark.parametrize(
    ("policy", "platform_info", "accepted"),
    [
        (0x30000, 1, True),
        (0x10000, 1, False),  # bit 17 must be one
        (0x20000, 1, False),  # the platform has SMT on
        (0x20000, 0, True),
        (0x3013A, 1, True),  # ABI 1.58
        (0x3013B, 1, False),
        (0x30000 | 1 << 23, 1, False),  # RAPL must be off
        (0x30000 | 1 << 23, 1 | 1 << 3, True),
        (0x30000 | 1 << 24, 1, False),  # ciphertext hiding
        (0x30000 | 1 << 24, 1 | 1 << 4, True),
    ],
)
def test_a_policy_that_the_platform_cannot_keep_is_refused(
    simulator_pki: SimulatorPki, policy: int, platform_info: int, accepted: bool
) -> None:
    processor = SecureProcessor(simulator_pki, Chip(platform_info=platform_info))
    if accepted:
        processor.launch_start(policy)
    else:
        with pytest.raises(UsageError, match=r"simulator\.sp\.policy"):
            processor.launch_start(policy)


def test_a_migration_agent_needs_a_policy_that_allows_it(simulator_pki: SimulatorPki) -> None:
    processor = SecureProcessor(simulator_pki)
    with pytest.raises(UsageError, match="policy"):
        processor.launch_start(POLICY, migration_agent=bytes(32))
    guest = processor.launch_start(POLICY | 1 << 18, migration_agent=b"\x07" * 32).finish()
    assert snp_report.parse(guest.report(DATA)).report_id_ma == b"\x07" * 32


def test_a_level_speaks_for_itself_and_below_only(simulator_pki: SimulatorPki) -> None:
    guest = launch(simulator_pki)
    for current, asked in itertools.product(range(4), range(-1, 5)):
        if current <= asked <= 3:
            assert snp_report.parse(guest.report(DATA, vmpl=asked, current_vmpl=current)).vmpl == asked
            guest.derive_key(KeyRequest(vmpl=asked), current_vmpl=current)
            continue
        with pytest.raises(UsageError, match=r"simulator\.sp\.vmpl"):
            guest.report(DATA, vmpl=asked, current_vmpl=current)
        with pytest.raises(UsageError, match=r"simulator\.sp\.vmpl"):
            guest.derive_key(KeyRequest(vmpl=asked), current_vmpl=current)


def test_either_key_can_be_asked_for(simulator_pki: SimulatorPki) -> None:
    cloud, own = launch(simulator_pki, Chip(vlek_csp=CSP, mask_chip_id=True)), launch(simulator_pki)
    asked = {select: snp_report.parse(cloud.report(DATA, key_select=select)).signing_key for select in KeySelect}
    assert asked == {KeySelect.DEFAULT: SigningKey.VLEK, KeySelect.VCEK: SigningKey.VCEK, KeySelect.VLEK: SigningKey.VLEK}
    assert snp_report.parse(own.report(DATA)).signing_key is SigningKey.VCEK
    with pytest.raises(UsageError, match="key-select"):
        own.report(DATA, key_select=KeySelect.VLEK)


def test_a_masked_key_signs_nothing(simulator_pki: SimulatorPki) -> None:
    report = snp_report.parse(launch(simulator_pki, Chip(mask_chip_key=True, mask_chip_id=True)).report(DATA))
    assert (report.signing_key, report.mask_chip_key, report.signature_r, report.chip_id) == (SigningKey.NONE, True, 0, bytes(64))


def test_report_data_has_64_bytes(simulator_pki: SimulatorPki) -> None:
    for length in (0, 63, 65):
        with pytest.raises(UsageError, match=r"simulator\.sp\.report"):
            launch(simulator_pki).report(bytes(length))


ALL = KeyRequest(FieldSelect.POLICY | FieldSelect.MEASUREMENT | FieldSelect.GUEST_SVN | FieldSelect.TCB_VERSION)


def test_the_same_launch_on_the_same_chip_has_the_same_key(simulator_pki: SimulatorPki) -> None:
    key = launch(simulator_pki).derive_key(ALL)
    assert len(key) == 32
    assert key == launch(simulator_pki).derive_key(ALL)
    # A firmware update moves REPORTED_TCB; a key asked for at the same TCB stays.
    updated = Chip(current_tcb=Tcb(5, 0, 25, 220), reported_tcb=Tcb(5, 0, 25, 220))
    request = replace(ALL, tcb_version=Chip().current_tcb)
    assert launch(simulator_pki, updated).derive_key(request) == launch(simulator_pki).derive_key(request)


def test_another_chip_launch_level_or_selection_has_another_key(simulator_pki: SimulatorPki) -> None:
    keys = [
        launch(simulator_pki).derive_key(ALL),
        launch(simulator_pki, Chip(chip_id=b"\x77" * 64)).derive_key(ALL),
        launch(simulator_pki, Chip(GENOA)).derive_key(ALL),
        launch(simulator_pki, page=b"\1" * 4096).derive_key(ALL),
        launch(simulator_pki, policy=POLICY | 1).derive_key(ALL),
        launch(simulator_pki).derive_key(replace(ALL, vmpl=1)),
        launch(simulator_pki).derive_key(replace(ALL, tcb_version=Tcb(0, 0, 0, 0))),
        launch(simulator_pki, Chip(vlek_csp=CSP)).derive_key(ALL),
        *(launch(simulator_pki).derive_key(KeyRequest(field)) for field in FieldSelect),
        launch(simulator_pki).derive_key(KeyRequest()),
    ]
    assert len(set(keys)) == len(keys)


def test_an_unselected_field_does_not_count(simulator_pki: SimulatorPki) -> None:
    request = KeyRequest(FieldSelect.POLICY)
    assert launch(simulator_pki).derive_key(request) == launch(simulator_pki, page=b"\1" * 4096).derive_key(request)
    without_policy = KeyRequest(FieldSelect.MEASUREMENT)
    assert launch(simulator_pki).derive_key(without_policy) == launch(simulator_pki, policy=POLICY | 1).derive_key(without_policy)


@given(
    component=st.sampled_from(["bootloader", "tee", "snp", "microcode"]),
    committed=st.integers(0, 255),
    asked=st.integers(0, 255),
)
def test_no_key_of_a_tcb_beyond_the_committed_one(simulator_pki: SimulatorPki, component: str, committed: int, asked: int) -> None:
    guest = launch(simulator_pki, Chip(committed_tcb=replace(Tcb(9, 9, 9, 9), **{component: committed})))
    request = KeyRequest(FieldSelect.TCB_VERSION, tcb_version=replace(Tcb(9, 9, 9, 9), **{component: asked}))
    if asked <= committed:
        guest.derive_key(request)
    else:
        with pytest.raises(UsageError, match="key-request"):
            guest.derive_key(request)


def test_key_requests_beyond_what_the_guest_has(simulator_pki: SimulatorPki) -> None:
    guest = launch(simulator_pki, Chip(launch_mit_vector=0b101))
    guest.derive_key(KeyRequest(FieldSelect.LAUNCH_MIT_VECTOR, launch_mit_vector=0b100))
    for request in (
        KeyRequest(guest_svn=1),
        KeyRequest(launch_mit_vector=0b010),
        KeyRequest(migration_root=True),
        KeyRequest(tcb_version=Tcb(0, 0, 0, 0, fmc=0)),  # Turin's layout on Milan
        KeyRequest(key_select=KeySelect.VLEK),
    ):
        with pytest.raises(UsageError, match=r"simulator\.sp\.key"):
            guest.derive_key(request)


def test_a_migration_agents_root_moves_with_the_guest(simulator_pki: SimulatorPki) -> None:
    def migratable(chip_id: bytes) -> Guest:
        processor = SecureProcessor(simulator_pki, Chip(chip_id=chip_id))
        return processor.launch_start(POLICY | 1 << 18, migration_agent=bytes(32), migration_root=b"\x09" * 32).finish()

    request = KeyRequest(FieldSelect.MEASUREMENT, migration_root=True)
    here, there = migratable(b"\1" * 64), migratable(b"\2" * 64)
    assert here.derive_key(request) == there.derive_key(request)
    assert here.derive_key(replace(request, migration_root=False)) != there.derive_key(replace(request, migration_root=False))


def test_a_chip_id_has_64_bytes(simulator_pki: SimulatorPki) -> None:
    with pytest.raises(UsageError, match=r"simulator\.sp\.chip"):
        SecureProcessor(simulator_pki, Chip(MILAN, chip_id=bytes(8)))


@pytest.mark.parametrize("model", [0x10, 0x11, 0x1F, 0xA0, 0xA2, 0xAF])
def test_bergamo_and_siena_are_genoa(simulator_pki: SimulatorPki, model: int) -> None:
    report = snp_report.parse(launch(simulator_pki, Chip(GENOA, cpuid=(0x19, model, 2))).report(DATA))
    assert report.product is GENOA
    assert report.cpuid == snp_report.Cpuid(0x19, model, 2)
