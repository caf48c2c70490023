"""configfs-tsm output in one document: ``outblob``, ``auxblob`` and ``provider``.

Source: Linux kernel, Documentation/ABI/testing/configfs-tsm (attributes of ``/sys/kernel/config/tsm/report/$name``). The
document forms are those of Veraison's SEV-SNP scheme (``application/vnd.veraison.configfs-tsm+json`` and ``+cbor``):
JSON with base64url strings without padding, or CBOR with byte strings. ``provider`` ends in a line feed, as the kernel writes it.
"""

from __future__ import annotations

import base64
import binascii
import io
from dataclasses import dataclass
from typing import Any, Literal

import cbor2

from evident import codec
from evident.errors import Malformed, Unsupported

WHAT = "tsm-report"
MAX_BYTES = 4 * 1024 * 1024
MEMBERS = ("auxblob", "outblob", "provider")
PROVIDERS = ("sev_guest", "tdx_guest")


@dataclass(frozen=True, slots=True)
class TsmReport:
    """What the guest read from its report directory."""

    outblob: bytes
    """The report of the TEE."""
    auxblob: bytes
    """Certificates that the host added (SNP: a certificate table); empty where there are none."""
    provider: str
    """``sev_guest`` or ``tdx_guest``, without the line feed."""
    form: Literal["json", "cbor"]
    raw: bytes


def looks_like(data: bytes) -> bool:
    """Whether `data` may be such a document, told by its first bytes and the name of a member."""
    start = data[:1]
    return b"outblob" in data and (start == b"\xa2" or start == b"\xa3" or data.lstrip()[:1] == b"{")


def parse(raw: bytes) -> TsmReport:
    """Parse the JSON or CBOR form; raises `Malformed`, and `Unsupported` for a provider that Evident does not know."""
    if len(raw) > MAX_BYTES:
        raise _malformed("oversized", expected=f"at most {MAX_BYTES} bytes", found=f"{len(raw)} bytes")
    if raw.lstrip()[:1] == b"{":
        return _build(codec.loads(raw, WHAT, limit=MAX_BYTES), "json", raw)
    return _build(_cbor(raw), "cbor", raw)


def serialize(report: TsmReport) -> bytes:
    """The document in the form that it came in, members in alphabetical order; `provider` regains its line feed, JSON ends in one."""
    members: dict[str, Any] = {"outblob": report.outblob, "provider": report.provider + "\n"}
    if report.auxblob:
        members["auxblob"] = report.auxblob
    ordered = {name: members[name] for name in sorted(members)}
    if report.form == "cbor":
        return cbor2.dumps(ordered)
    texts = (f'"{name}":"{_text(value)}"' for name, value in ordered.items())
    return ("{" + ",".join(texts) + "}\n").encode("ascii")


def _text(value: bytes | str) -> str:
    if isinstance(value, bytes):
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")
    return value.replace("\n", "\\n")


def _cbor(raw: bytes) -> Any:
    stream = io.BytesIO(raw)
    try:
        value = cbor2.CBORDecoder(stream, allow_duplicate_keys=False, allow_indefinite=False, max_depth=4).decode()
    except (cbor2.CBORDecodeError, ValueError, RecursionError, OverflowError, MemoryError) as error:
        raise _malformed("cbor", expected="one CBOR map", found=f"{type(error).__name__}: {error}"[:120]) from None
    if stream.tell() != len(raw):
        raise _malformed("trailing", expected="one CBOR map and nothing else", found=f"{len(raw) - stream.tell()} more bytes")
    return value


def _build(value: Any, form: Literal["json", "cbor"], raw: bytes) -> TsmReport:
    if not isinstance(value, dict):
        raise _malformed("type", expected="an object with outblob, auxblob and provider", found=type(value).__name__)
    unknown = [name for name in value if name not in MEMBERS]
    missing = [name for name in ("outblob", "provider") if name not in value]
    if unknown or missing:
        found = [*(f"unknown {name!r}"[:40] for name in unknown), *(f"no {name!r}" for name in missing)]
        raise _malformed("members", expected="outblob, provider and at most auxblob beside them", found=", ".join(found)[:160])
    provider = value["provider"]
    if not isinstance(provider, str):
        raise _malformed("type", expected="a string at provider", found=type(provider).__name__)
    provider = provider.removesuffix("\n")
    if provider not in PROVIDERS:
        raise Unsupported.of(
            f"{WHAT}.provider",
            expected="provider " + " or ".join(PROVIDERS),
            found=repr(provider)[:60],
            remedy="Evident verifies SEV-SNP and TDX reports.",
        )
    return TsmReport(_bytes(value, "outblob"), _bytes(value, "auxblob"), provider, form, raw)


def _bytes(value: dict[str, Any], name: str) -> bytes:
    content = value.get(name, b"")
    if isinstance(content, bytes):
        return content
    if not isinstance(content, str):
        raise _malformed("type", expected=f"bytes at {name}", found=type(content).__name__)
    unpadded = content.rstrip("=")
    try:
        decoded = base64.b64decode(unpadded + "=" * (-len(unpadded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed("base64", expected=f"base64url at {name}", found=str(error)) from None
    if base64.urlsafe_b64encode(decoded).decode("ascii").rstrip("=") != unpadded:
        raise _malformed("base64", expected=f"base64url in its one canonical form at {name}", found="stray bits in the last character")
    return decoded


def _malformed(problem: str, *, expected: str, found: str) -> Malformed:
    return Malformed.of(
        f"{WHAT}.{problem}", expected=expected, found=found, remedy="Read outblob, auxblob and provider again in the guest."
    )
