"""A world to attack: one simulated chip, its keys, and a hand that can sign whatever an attacker would like signed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from evident.endorsements import anchors, pem
from evident.endorsements.anchors import Anchor, AnchorSet
from evident.endorsements.fetcher import Fetched
from evident.errors import CollateralUnavailable
from evident.evidence import cert_table
from evident.evidence.snp_report import MILAN, Product, Tcb
from evident.simulator import pki as simulator
from evident.simulator import scenario
from evident.simulator.cloud_pki import CloudPki
from evident.simulator.guest import VmState
from evident.simulator.id_block import signature_field
from evident.simulator.pki import SimulatorPki
from evident.simulator.secure_processor import Chip, SecureProcessor
from evident.verification.context import Context
from evident.verification.snp import ROLES

AT = datetime(2026, 6, 10, tzinfo=UTC)
NONCE = bytes(range(100, 132))
OTHER_CHIP = bytes(range(200, 136, -1))
CSP = "CN=cc-test.invalid"
PSS = padding.PSS(padding.MGF1(hashes.SHA384()), salt_length=48)


class Shelf:
    """A fetcher over a dict; everything else is out of reach."""

    def __init__(self, bodies: Mapping[str, bytes] | None = None) -> None:
        self.bodies = dict(bodies or {})
        self.asked: list[str] = []

    def fetch(self, url: str, *, limit: int) -> Fetched:
        self.asked.append(url)
        if url not in self.bodies or len(self.bodies[url]) > limit:
            raise CollateralUnavailable.of("fetch.unreachable", expected=url, found="no answer", remedy="Try again later.")
        return Fetched(url, self.bodies[url], AT)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Pieces and context of one verification; `but` makes a variation of either."""

    pieces: Mapping[str, tuple[bytes, ...]]
    context: Context

    def but(self, **changes: Any) -> Evidence:
        pieces = {role: content for role, content in changes.items() if role in ROLES}
        fields = {name: value for name, value in changes.items() if name not in pieces}
        merged = {**self.pieces, **pieces}
        return Evidence({role: content for role, content in merged.items() if content}, dataclasses.replace(self.context, **fields))


class World:
    """Forgeries. `pki` is trusted as a simulator's; production anchors are there beside it."""

    def __init__(self, pki: SimulatorPki) -> None:
        self.pki = pki
        self.production = anchors.production()
        self.anchors = self.production.plus(*pki.anchors())

    def honest(self, chip: Chip | None = None) -> Evidence:
        """A report of `chip` over `NONCE` with everything needed to verify it."""
        chip = chip or Chip()
        product, kind = chip.product, "vcek" if chip.vlek_csp is None else "vlek"
        leaf = (
            self.pki.vcek(product, chip.hwid, chip.tcb("reported"))
            if chip.vlek_csp is None
            else self.pki.vlek(product, chip.vlek_csp, chip.tcb("reported"))
        )
        pieces = {
            "report": (self.report(chip),),
            kind: (leaf,),
            "chain": (self.pki.chain_pem(product, "vcek" if chip.vlek_csp is None else "vlek"),),
            "crl": (self.pki.crl(product, at=AT, number=7),),
        }
        return Evidence(pieces, self.context())

    def context(self, anchor_set: AnchorSet | None = None) -> Context:
        return Context(AT, anchor_set or self.anchors, Shelf(), nonce=NONCE, unsafe=frozenset({"simulated-root"}))

    def report(self, chip: Chip, edits: Mapping[int, bytes] | None = None, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
        """The chip's report with bytes changed and signed again, by the chip's key or `key`."""
        guest = SecureProcessor(self.pki, chip, randomness=lambda count: b"\x11" * count).launch_start(policy=0x30000).finish()
        body = bytearray(guest.report(NONCE.ljust(64, b"\0"))[:0x2A0])
        for offset, content in (edits or {}).items():
            body[offset : offset + len(content)] = content
        key = key or self.key(chip)
        return bytes(body) + signature_field(key.sign(bytes(body), ec.ECDSA(hashes.SHA384(), deterministic_signing=True)))

    def key(self, chip: Chip) -> ec.EllipticCurvePrivateKey:
        """What signs the chip's reports."""
        if chip.vlek_csp is not None:
            return self.pki.vlek_key(chip.product, chip.vlek_csp, chip.tcb("reported"))
        return self.pki.vcek_key(chip.product, chip.hwid, chip.tcb("reported"))

    def rsa(self, role: simulator.Role) -> rsa.RSAPrivateKey:
        return self.pki._keys[role]

    def leaf(
        self,
        *,
        chip: Chip | None = None,
        public: Any = None,
        issuer: str = "TEST-SEV-Milan",
        signed_by: rsa.RSAPrivateKey | None = None,
        scheme: Any = PSS,
        authority: bool = False,
        tcb: Tcb | None = None,
        unknown: bool = False,
    ) -> bytes:
        """A VCEK certificate to measure."""
        chip = chip or Chip()
        extensions: list[x509.ExtensionType] = [
            *simulator._product_extensions("Milan-B0", tcb or chip.tcb("reported")),
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.3704.1.4"), chip.hwid),
        ]
        if unknown:
            extensions.append(x509.TLSFeature([x509.TLSFeatureType.status_request]))  # marked critical below
        return self.certificate(
            "TEST-SEV-VCEK", issuer, public or self.key(chip).public_key(), extensions, signed_by or self.rsa("ask"), scheme, authority
        )

    def authority(
        self,
        name: str,
        *,
        key: rsa.RSAPrivateKey,
        issuer: str = "TEST-ARK-Milan",
        signed_by: rsa.RSAPrivateKey | None = None,
        is_ca: bool = True,
        cert_sign: bool = True,
        crl_sign: bool = True,
    ) -> bytes:
        """An ASK or ARK to measure."""
        flags = simulator._ca_usage(crl_sign=crl_sign)
        usage = x509.KeyUsage(**{**{name.lstrip("_"): value for name, value in vars(flags).items()}, "key_cert_sign": cert_sign})
        return self.certificate(name, issuer, key.public_key(), [usage], signed_by or self.rsa("ark"), PSS, is_ca)

    def certificate(
        self,
        name: str,
        issuer: str,
        public: Any,
        extensions: Iterable[x509.ExtensionType],
        signed_by: rsa.RSAPrivateKey,
        scheme: Any,
        authority: bool,
    ) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(simulator._name(name))
            .issuer_name(simulator._name(issuer))
            .public_key(public)
            .serial_number(77)
            .not_valid_before(AT - timedelta(days=3))
            .not_valid_after(AT + timedelta(days=300))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.TLSFeature))
        if authority:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return builder.sign(signed_by, hashes.SHA384(), rsa_padding=scheme).public_bytes(Encoding.DER)

    def anchor(self, der: bytes, product: Product = MILAN) -> Anchor:
        """`der` trusted as a simulator's root of `product`."""
        return Anchor(
            f"forged root of {product.name}", "nobody", f"snp:{product.name}", der, "made by a test", "with nothing", simulated=True
        )


@pytest.fixture(scope="session")
def world(simulator_pki: SimulatorPki) -> World:
    return World(simulator_pki)


class Cloud:
    """A launched guest on the simulated processor, and everything a verifier needs to judge what it sends."""

    def __init__(self, simulated: SimulatorPki) -> None:
        self.scenario = scenario.good(simulated)
        self.at = self.scenario.at
        self.pki = CloudPki(self.at - timedelta(days=1))
        vm = self.scenario.start()
        self.guest = vm.guest
        self.table = vm.collect(NONCE)["auxblob"]
        entries = cert_table.parse(self.table[0])
        self.vcek = b"".join(pem.encode(entries.get(role) or b"", "CERTIFICATE") for role in ("vcek", "ask"))
        other = dataclasses.replace(self.scenario, state=VmState(bytes(range(32, 64)))).start()
        self.other_guest = other.guest

    def context(self, nonce: bytes | None = NONCE, **changes: Any) -> Context:
        """The verifier's context; it believes the TEST roots."""
        trusted = AnchorSet(self.scenario.pki.anchors()).plus(*self.pki.anchors())
        return dataclasses.replace(self.scenario.context(nonce, anchors=trusted), **changes)


@pytest.fixture(scope="session")
def cloud(simulator_pki: SimulatorPki) -> Cloud:
    return Cloud(simulator_pki)
