"""A vTPM in software, for tests and demonstrations: keys, PCRs, quotes, and the guest's half of credential activation.

It is the host's vTPM at its most obliging: whoever runs it sets PCRs as they like (`set_pcr`), which is AT-18 in one line. It
makes the structures of TCG TPM 2.0 Library 1.83, Part 2, through `evident.evidence.tpm`; its certificates come from TEST CAs.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from evident.errors import NotAuthentic, UsageError
from evident.evidence import tpm, tpm_public
from evident.evidence import tpm_algorithms as alg
from evident.evidence.reader import Reader
from evident.evidence.tpm_public import EccKey, Public, RsaKey, Scheme, Symmetric
from evident.evidence.tpm_templates import AES_128_CFB, AK_ATTRIBUTES, EK_ATTRIBUTES, EK_POLICY
from evident.verification import credential

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

UNRESTRICTED_ATTRIBUTES = 0x00040072
FIRMWARE_VERSION = 0x2016051100162800
PCRS = 24


def public_area(key: PrivateKey, attributes: int, *, scheme: Scheme, symmetric: Symmetric, policy: bytes = b"") -> Public:
    """The TPMT_PUBLIC of a key, named by SHA-256."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        area: RsaKey | EccKey = RsaKey(public.key_size, 0, numbers.n.to_bytes(public.key_size // 8, "big"))
    else:
        point, size = public.public_numbers(), (public.curve.key_size + 7) // 8
        curve = {"secp256r1": alg.CURVE_P256, "secp384r1": alg.CURVE_P384}[public.curve.name]
        area = EccKey(curve, Scheme(), point.x.to_bytes(size, "big"), point.y.to_bytes(size, "big"))
    unnamed = Public(alg.ALG_SHA256, attributes, policy, symmetric, scheme, area, b"")
    return tpm_public.parse(tpm_public.serialize(unnamed))


def _sign(key: PrivateKey, scheme: Scheme, message: bytes) -> bytes:
    digest: hashes.HashAlgorithm = {alg.ALG_SHA256: hashes.SHA256(), alg.ALG_SHA384: hashes.SHA384()}[scheme.hash or 0]
    if isinstance(key, rsa.RSAPrivateKey):
        pss = scheme.id == alg.ALG_RSAPSS
        value = key.sign(message, padding.PSS(padding.MGF1(digest), digest.digest_size) if pss else padding.PKCS1v15(), digest)
        return tpm.serialize_signature(tpm.Signature(scheme.id, scheme.hash or 0, rsa=value))
    size = (key.curve.key_size + 7) // 8
    r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(digest)))
    return tpm.serialize_signature(tpm.Signature(scheme.id, scheme.hash or 0, r=r.to_bytes(size, "big"), s=s.to_bytes(size, "big")))


@dataclass(slots=True)
class SimulatedTpm:
    """One vTPM with one EK and one AK, both primary keys of the endorsement hierarchy."""

    ek_key: PrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    ak_key: PrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    ak_scheme: Scheme = field(default_factory=lambda: Scheme(alg.ALG_ECDSA, alg.ALG_SHA256))
    ak_attributes: int = AK_ATTRIBUTES
    ek_attributes: int = EK_ATTRIBUTES
    reset_count: int = 1
    pcrs: dict[str, dict[int, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for bank in ("sha256", "sha384"):
            size = alg.HASH_BY_NAME[bank].size
            blank = {index: (b"\xff" if 17 <= index <= 22 else b"\0") * size for index in range(PCRS)}
            self.pcrs[bank] = blank | self.pcrs.get(bank, {})

    @property
    def ek(self) -> Public:
        return public_area(self.ek_key, self.ek_attributes, scheme=Scheme(), symmetric=AES_128_CFB, policy=EK_POLICY)

    @property
    def ak(self) -> Public:
        return public_area(self.ak_key, self.ak_attributes, scheme=self.ak_scheme, symmetric=Symmetric())

    def extend(self, index: int, digests: dict[str, bytes]) -> None:
        """TPM2_PCR_Extend with a digest for each bank."""
        for bank, digest in digests.items():
            self.pcrs[bank][index] = alg.HASH_BY_NAME[bank].digest(self.pcrs[bank][index], digest)

    def set_pcr(self, bank: str, index: int, value: bytes) -> None:
        """What no TPM does, and every host of a vTPM can."""
        self.pcrs[bank][index] = value

    def quote(self, nonce: bytes, bank: str = "sha256", indices: tuple[int, ...] = tuple(range(PCRS))) -> tuple[bytes, bytes]:
        """TPMS_ATTEST and TPMT_SIGNATURE over PCRs of one bank."""
        selections = (tpm.PcrSelection.of(bank, indices),)
        info = tpm.QuoteInfo(selections, tpm.pcr_digest(selections, self.pcrs, self.ak_scheme.hash or 0))
        return self.attest(nonce, tpm.serialize_quote_info(info))

    def attest(
        self, nonce: bytes, body: bytes, *, magic: int = tpm.GENERATED, kind: int = tpm.ST_ATTEST_QUOTE, signer: bytes | None = None
    ) -> tuple[bytes, bytes]:
        """A signed TPMS_ATTEST of any kind; a real restricted key refuses other values of `magic`."""
        if magic != tpm.GENERATED and self.ak.attribute_flags["restricted"]:
            raise UsageError.of(
                "simulator.tpm.restricted",
                expected="TPM_GENERATED in what a restricted key signs",
                found=f"{magic:08x}",
                remedy="Sign foreign bytes with an unrestricted key.",
            )
        own = self.ak.qualified_name(tpm_public.HANDLE_ENDORSEMENT.to_bytes(4, "big"))
        attest = tpm.Attest(magic, kind, signer or own, nonce, 1000, self.reset_count, 0, True, FIRMWARE_VERSION, body, b"")
        message = tpm.serialize_attest(attest)
        return message, _sign(self.ak_key, self.ak_scheme, message)

    def activate(self, credential_blob: bytes, encrypted_secret: bytes) -> bytes:
        """TPM2_ActivateCredential for the AK: the secret, or `NotAuthentic` when blob, EK and AK do not belong together."""
        ek, name = self.ek, self.ak.name
        outer = Reader(tpm_public.buffer(Reader(credential_blob, "tpm.credential"), "credential blob"), "tpm.credential")
        mac = tpm_public.buffer(outer, "integrity")
        identity = outer.take(outer.remaining, "identity")
        seed = self._seed(tpm_public.buffer(Reader(encrypted_secret, "tpm.credential"), "encrypted secret"))
        if not hmac.compare_digest(mac, credential.integrity("sha256", seed, identity, name)):
            raise NotAuthentic.of(
                "tpm.credential",
                expected="a credential for this EK and the name of this AK",
                found="an integrity value that does not verify",
                remedy="Ask for a credential for the AK of this TPM.",
                layer="vtpm",
            )
        secret = credential.cipher(ek, "sha256", seed, name).decryptor().update(identity)
        return tpm_public.buffer(Reader(secret, "tpm.credential"), "secret")

    def _seed(self, encrypted: bytes) -> bytes:
        if isinstance(self.ek_key, rsa.RSAPrivateKey):
            digest = hashes.SHA256()
            return self.ek_key.decrypt(encrypted, padding.OAEP(padding.MGF1(digest), digest, credential.IDENTITY))
        reader = Reader(encrypted, "tpm.credential")
        x, y = tpm_public.buffer(reader, "x"), tpm_public.buffer(reader, "y")
        point = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), self.ek_key.curve).public_key()
        z = self.ek_key.exchange(ec.ECDH(), point)
        return credential.kdfe("sha256", z, credential.IDENTITY, x, credential.coordinate(self.ek_key.public_key()), 256)
