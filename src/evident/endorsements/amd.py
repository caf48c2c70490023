"""AMD's key distribution: what a VCEK or VLEK certificate says, and where AMD publishes chains, keys and CRLs.

Source: AMD publication 57230 "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification", tables
"VCEK certificate extensions" and "VLEK certificate extensions", section KDS interface; the Turin form (FMC, 8-byte hwID) as
in revision 1.00 of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from evident.endorsements import crl, der, x509
from evident.endorsements.x509 import Certificate
from evident.errors import Malformed, Unsupported, UsageError
from evident.evidence.snp_report import GENOA, MILAN, PRODUCTS, TURIN, Product, SigningKey, Tcb

WHAT = "amd.certificate"
KDS_BASE = "https://kdsintf.amd.com"

CERTIFICATE_LIMIT = 64 * 1024
CHAIN_LIMIT = 64 * 1024
CRL_LIMIT = 1024 * 1024

HWID_BYTES = 64
TURIN_HWID_BYTES = 8
STRUCT_VERSIONS = (0, 1)

_ARC = "1.3.6.1.4.1.3704.1"
STRUCT_VERSION_OID = f"{_ARC}.1"
PRODUCT_NAME_OID = f"{_ARC}.2"
SPL_OIDS: Mapping[str, str] = MappingProxyType(
    {
        "bootloader": f"{_ARC}.3.1",
        "tee": f"{_ARC}.3.2",
        "snp": f"{_ARC}.3.3",
        "microcode": f"{_ARC}.3.8",
        "fmc": f"{_ARC}.3.9",
    }
)
HWID_OID = f"{_ARC}.4"
CSP_ID_OID = f"{_ARC}.5"

_PRODUCT_OF_NAME: Mapping[str, Product] = MappingProxyType(
    {"Milan": MILAN, "Genoa": GENOA, "Bergamo": GENOA, "Siena": GENOA, "Turin": TURIN}
)
_KIND_OF_SUBJECT: Mapping[str, SigningKey] = MappingProxyType({"SEV-VCEK": SigningKey.VCEK, "SEV-VLEK": SigningKey.VLEK})
_SIGNER: Mapping[SigningKey, str] = MappingProxyType({SigningKey.VCEK: "SEV-", SigningKey.VLEK: "SEV-VLEK-"})
_KDS_NAME: Mapping[SigningKey, Literal["vcek", "vlek"]] = MappingProxyType({SigningKey.VCEK: "vcek", SigningKey.VLEK: "vlek"})


@dataclass(frozen=True, slots=True)
class EndorsementKey:
    """What the certificate of a VCEK or VLEK says. It is authentic only once its chain is verified."""

    certificate: Certificate
    kind: SigningKey
    """`SigningKey.VCEK` or `SigningKey.VLEK`."""
    struct_version: int
    product_name: str
    """As written, with a stepping on VCEKs: ``Milan-B0``."""
    product: Product
    tcb: Tcb
    """The security version numbers that this key was derived with."""
    hwid: bytes | None
    """Of the chip, 64 bytes (Turin: 8); None on a VLEK."""
    csp_id: str | None
    """Of the cloud that holds the key; None on a VCEK."""


def amd_name(certificate: Certificate) -> str:
    """The subject's common name as AMD would write it: a simulator's certificates bear the same names behind ``TEST-``.

    A name proves nothing, in either form; what a certificate is worth is decided by the pinned root of its chain.
    """
    return (certificate.subject_cn or "").removeprefix("TEST-")


def ark_name(product: Product) -> str:
    """Common name of the product's root."""
    return f"ARK-{product.name}"


def signer_name(product: Product, kind: SigningKey) -> str:
    """Common name of the intermediate that signs keys of this kind: the ASK, or the ASVK for VLEKs."""
    return f"{_SIGNER[kind]}{product.name}"


def product_named(name: str) -> Product:
    """A product by its name as a user writes it; `UsageError` for another."""
    for product in PRODUCTS:
        if product.name.lower() == name.lower():
            return product
    raise UsageError.of(
        "amd.product",
        expected=" or ".join(product.name for product in PRODUCTS),
        found=repr(name),
        remedy="Bergamo and Siena share Genoa's keys: pass Genoa for them.",
    )


def parse_endorsement_key(certificate: Certificate) -> EndorsementKey:
    """Read the extensions of a VCEK or VLEK; raises `Malformed` and `Unsupported` (``amd.certificate.*``)."""
    kind = _KIND_OF_SUBJECT.get(amd_name(certificate))
    if kind is None:
        raise _malformed("kind", "a certificate of SEV-VCEK or SEV-VLEK", f"one of {certificate.name}", "Pass the VCEK or VLEK here.")
    struct_version = _number(certificate, STRUCT_VERSION_OID, "structure version")
    if struct_version not in STRUCT_VERSIONS:
        raise _unsupported("structure", "structure version 0 or 1", str(struct_version))
    product_name = _text(certificate, PRODUCT_NAME_OID, "product name")
    product = _PRODUCT_OF_NAME.get(product_name.split("-")[0])
    if product is None:
        raise _unsupported("product", "one of " + ", ".join(_PRODUCT_OF_NAME), repr(product_name))
    numbers = {name: _number(certificate, oid, f"{name} SPL") for name, oid in SPL_OIDS.items() if name != "fmc" or product.turin_layout}
    known = {SPL_OIDS[name] for name in numbers}
    for oid in certificate.extensions:
        if oid.startswith(f"{_ARC}.3.") and oid not in known:
            _reserved_number(certificate, oid)
    hwid = _hwid(certificate, product) if kind is SigningKey.VCEK else None
    csp_id = _text(certificate, CSP_ID_OID, "CSP_ID") if kind is SigningKey.VLEK else None
    stray = CSP_ID_OID if kind is SigningKey.VCEK else HWID_OID
    if stray in certificate.extensions:
        raise _malformed("extension", f"no extension {stray} on a {kind.name}", "one", "The certificate is not AMD's.")
    return EndorsementKey(certificate, kind, struct_version, product_name, product, Tcb(**numbers), hwid, csp_id)


def _value(certificate: Certificate, oid: str, field: str) -> bytes:
    extension = certificate.extensions.get(oid)
    if extension is None:
        raise _malformed("extension", f"{field} ({oid})", "no such extension", "Pass the VCEK or VLEK as AMD issued it.")
    return extension.value


def _number(certificate: Certificate, oid: str, field: str) -> int:
    """An INTEGER from 0 to 255; above 127 it takes two bytes of content."""
    reader = der.Der(_value(certificate, oid, field), WHAT)
    number = reader.unsigned(field, 255)
    reader.end(field)
    return number


def _reserved_number(certificate: Certificate, oid: str) -> None:
    """A component of the TCB that this version of Evident knows only as reserved: it must be there for nothing."""
    if _number(certificate, oid, "reserved SPL"):
        raise _unsupported("reserved-spl", f"zero in reserved SPL {oid}", "another number")


def _text(certificate: Certificate, oid: str, field: str) -> str:
    reader = der.Der(_value(certificate, oid, field), WHAT)
    content = reader.content(der.IA5_STRING, field)
    reader.end(field)
    if not content or len(content) > 128 or not content.isascii() or not (text := content.decode("ascii")).isprintable():
        raise _malformed("extension", f"1 to 128 printable characters of {field}", content[:32].hex(), "The certificate is not AMD's.")
    return text


def _hwid(certificate: Certificate, product: Product) -> bytes:
    """The raw bytes, or an OCTET STRING around them, which some issuing software writes."""
    value = _value(certificate, HWID_OID, "hwID")
    length = hwid_bytes(product)
    if len(value) == length:
        return value
    reader = der.Der(value, WHAT)
    hwid = reader.content(der.OCTET_STRING, "hwID")
    reader.end("hwID")
    if len(hwid) != length:
        raise _malformed("hwid", f"{length} bytes of hwID on {product.name}", f"{len(hwid)} bytes", "The certificate is not AMD's.")
    return hwid


def hwid_bytes(product: Product) -> int:
    """How long the product's hwID is in its certificates and in KDS paths."""
    return TURIN_HWID_BYTES if product.turin_layout else HWID_BYTES


def _unsupported(problem: str, expected: str, found: str) -> Unsupported:
    return Unsupported.of(f"{WHAT}.{problem}", expected=expected, found=found, remedy="This processor needs a newer Evident.")


def _malformed(problem: str, expected: str, found: str, remedy: str) -> Malformed:
    return Malformed.of(f"{WHAT}.{problem}", expected=expected, found=found, remedy=remedy)


def vcek_url(product: Product, chip_id: bytes, reported_tcb: Tcb, *, base: str = KDS_BASE) -> str:
    """Where the KDS serves the VCEK of a chip at a TCB.

    The TCB is REPORTED_TCB: the firmware signs with the key of that one, not of the committed or current TCB (AT-69).
    `chip_id` is CHIP_ID of the report (64 bytes) or the hwID itself.
    """
    length = hwid_bytes(product)
    if len(chip_id) not in (HWID_BYTES, length) or chip_id[length:].strip(b"\0") or not chip_id.strip(b"\0"):
        raise UsageError.of(
            "amd.hwid",
            expected=f"the chip id of a {product.name} processor, {length} bytes and not zero",
            found=chip_id.hex() or "nothing",
            remedy="A masked chip id, or a VLEK's, names no chip: pass the certificate itself.",
        )
    if (reported_tcb.fmc is None) == product.turin_layout:
        raise UsageError.of(
            "amd.tcb",
            expected=f"a TCB in the layout of {product.name}",
            found="the other layout",
            remedy="Name the product that the report comes from.",
        )
    numbers = (
        ("fmcSPL", reported_tcb.fmc),
        ("blSPL", reported_tcb.bootloader),
        ("teeSPL", reported_tcb.tee),
        ("snpSPL", reported_tcb.snp),
        ("ucodeSPL", reported_tcb.microcode),
    )
    query = "&".join(f"{name}={number:02d}" for name, number in numbers if number is not None)
    return f"{base}/vcek/v1/{product.name}/{chip_id[:length].hex()}?{query}"


def chain_url(product: Product, kind: SigningKey, *, base: str = KDS_BASE) -> str:
    """PEM: the ASK (or ASVK), then the ARK."""
    return f"{base}/{_KDS_NAME[kind]}/v1/{product.name}/cert_chain"


def crl_url(product: Product, kind: SigningKey, *, base: str = KDS_BASE) -> str:
    """DER, signed by the ARK; it lists revoked ASKs (or ASVKs)."""
    return f"{base}/{_KDS_NAME[kind]}/v1/{product.name}/crl"


def crl_scope(ark: Certificate, kind: SigningKey) -> str:
    """Under which name the highest CRL number is remembered: AMD publishes one CRL per root and kind of key."""
    return f"{ark.subject_cn}/{_KDS_NAME[kind]}/{ark.fingerprint[:16]}"


def refuse_implausible(url: str, body: bytes) -> None:
    """Raise `Malformed` or `Unsupported` when `body` cannot be what `url`, one of those above, names.

    Not a verification: it keeps a portal's page out of the cache.
    """
    path = url.partition("?")[0]
    if path.endswith("/crl"):
        crl.load(body)
    elif path.endswith("/cert_chain"):
        x509.load_all(body)
    elif "/vcek/v1/" in path:
        load_endorsement_key(body)


def load_endorsement_key(data: bytes) -> EndorsementKey:
    """The VCEK or VLEK in `data` (PEM or DER, alone)."""
    return parse_endorsement_key(x509.load(data))
