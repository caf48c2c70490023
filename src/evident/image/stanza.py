"""Debian control data: one paragraph of fields, as in a package's ``control`` or a source package's ``.dsc``.

Sources: deb-control(5), dsc(5), deb822(5). Signatures around a paragraph are not looked at: the archive's signed index has its SHA-256.
"""

from __future__ import annotations

import re

from evident.errors import Malformed

_FIELD = re.compile(r"([!-9;-~][!-9;-~]*):[ \t]*(.*)")
_ARMOUR = "-----BEGIN PGP SIGN"


def parse(raw: bytes, what: str) -> dict[str, str]:
    """The fields of the one paragraph in `raw`, names in lower case, continued lines joined by newlines. Raises `Malformed`."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise _malformed(what, str(error)) from None
    if text.startswith(f"{_ARMOUR}ED MESSAGE-----"):
        text = text.partition("\n\n")[2].partition(f"{_ARMOUR}ATURE-----")[0]
    fields: dict[str, str] = {}
    name = ""
    for line in text.strip("\n").split("\n"):
        if line[:1] in {" ", "\t"} and name:
            fields[name] += "\n" + line.strip()
            continue
        match = _FIELD.fullmatch(line)
        if match is None or match.group(1).lower() in fields:
            raise _malformed(what, repr(line[:60]))
        name = match.group(1).lower()
        fields[name] = match.group(2).strip()
    return fields


def _malformed(what: str, found: str) -> Malformed:
    return Malformed.of("image.control", expected="one paragraph of fields", found=f"{what}: {found}", remedy="Get the package again.")
