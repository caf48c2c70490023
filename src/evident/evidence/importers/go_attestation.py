"""A TPM dump of google/go-attestation: quote, AK, PCRs and log as base64 in JSON.

Source: google/go-attestation ``attest/internal/testutil`` and ``attest.Dump`` (01dcb111): members AK.Public, Quote.Quote,
Quote.Signature, Quote.Alg (a TPM_ALG_ID), Log.PCRs and Log.Raw.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from evident import codec
from evident.errors import Malformed
from evident.evidence import tpm_algorithms as alg

WHAT = "go-attestation"
MAX_BYTES = 8 * 1024 * 1024


def parse(raw: bytes) -> dict[str, tuple[bytes, ...]]:
    """Roles ``ak``, ``tpm-quote``, ``signature``, ``pcrs`` (JSON) and ``log``. Raises `Malformed`, `Unsupported`."""
    value = codec.loads(raw, WHAT, limit=MAX_BYTES)
    key, quote, log = _object(value, "AK"), _object(value, "Quote"), _object(value, "Log")
    identifier = quote.get("Alg")
    if type(identifier) is not int:
        raise _malformed("a TPM_ALG_ID as Quote.Alg", repr(identifier)[:40])
    listed = log.get("PCRs")
    if not isinstance(listed, list):
        raise _malformed("an array as Log.PCRs", type(listed).__name__)
    registers = {}
    for item in listed:
        index = item.get("Index") if isinstance(item, dict) else None
        if type(index) is not int or str(index) in registers:
            raise _malformed("every PCR once in Log.PCRs", repr(item)[:60])
        registers[str(index)] = _bytes(item.get("Digest"), "a PCR").hex()
    pcrs = json.dumps({alg.hash_of(identifier, "Quote.Alg").name: registers}).encode()
    return {
        "ak": (_bytes(key.get("Public"), "AK.Public"),),
        "tpm-quote": (_bytes(quote.get("Quote"), "Quote.Quote"),),
        "signature": (_bytes(quote.get("Signature"), "Quote.Signature"),),
        "pcrs": (pcrs,),
        "log": (_bytes(log.get("Raw"), "Log.Raw"),),
    }


def _object(value: Any, name: str) -> dict[str, Any]:
    member = value.get(name) if isinstance(value, dict) else None
    if not isinstance(member, dict):
        raise _malformed(f"an object {name}", type(member).__name__)
    return member


def _bytes(value: Any, field: str) -> bytes:
    try:
        if not isinstance(value, str) or not value:
            raise ValueError
        return base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        raise _malformed(f"base64 as {field}", repr(value)[:60]) from None


def _malformed(expected: str, found: str) -> Malformed:
    return Malformed.of(WHAT, expected=expected, found=found, remedy="Pass the dump as go-attestation wrote it.")
