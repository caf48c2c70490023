"""A machine's SSH host key, believed because the machine's evidence binds it (SG-02).

The guest makes a new host key at every boot and has its public half bound into a report, as any key of its own
(`evident.evidence.binding`). A line for ``known_hosts`` is written only for a key that accepted evidence binds to a challenge of ours.

Formats: OpenSSH, sshd(8) "SSH_KNOWN_HOSTS FILE FORMAT"; RFC 5656, section 3.1 (ecdsa-sha2-nistp384).
"""

from __future__ import annotations

import hmac
import re
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from evident.appraisal.accepted import check_accepted
from evident.appraisal.statement import TrustStatement
from evident.errors import Malformed, NotAuthentic
from evident.evidence import binding
from evident.files import locked, write_private_bytes

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}|\[[A-Za-z0-9.:-]{1,253}\]:[0-9]{1,5}")


def known_hosts_line(host: str, spki: bytes, statement: TrustStatement, bound_key: bytes | None) -> str:
    """The line for `host` and its key `spki` (DER, P-384).

    `statement` is that on the evidence, `bound_key` `Facts.bound_key` of the same. Raises `PolicyRefused` or `Indeterminate` with the
    statement's findings, `NotAuthentic` ``ssh.host-key`` for a key that the evidence does not bind, `Malformed`.
    """
    check_accepted(statement)
    check_bound(spki, bound_key)
    if not _HOST.fullmatch(host):
        raise Malformed.of("ssh.host", expected="a host name, or [name]:port", found=repr(host)[:80], remedy="Name one host.")
    text = _public(spki).public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
    return f"{host} {text}"


def remember(known_hosts: Path, line: str) -> None:
    """Put `line` into the file in place of other lines for the same host. The file is replaced whole."""
    with locked(known_hosts.with_name(known_hosts.name + ".lock")):
        host = line.split(" ", 1)[0]
        kept = known_hosts.read_text().splitlines() if known_hosts.exists() else []
        lines = [old for old in kept if old.split(" ", 1)[0] != host]
        write_private_bytes(known_hosts, "".join(f"{text}\n" for text in (*lines, line)).encode())


def check_bound(spki: bytes, bound_key: bytes | None) -> None:
    """The host key is the one that the evidence binds."""
    if bound_key is None or not hmac.compare_digest(bound_key, binding.key_digest(spki)):
        raise NotAuthentic.of(
            "ssh.host-key",
            expected="the host key that the machine's evidence binds",
            found="another key" if bound_key else "evidence that binds no key",
            remedy="Somebody stands between you and the machine: do not log in.",
            layer="identity",
        )


def _public(der: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise Malformed.of("ssh.key", expected="a P-384 key", found="another key", remedy="Make the host key of type ecdsa-sha2-nistp384.")
    return key
