"""Decode a file and show what it says. Nothing is checked: what is shown may be forged. To check, use `evident verify`.

Understands SEV-SNP attestation reports (raw, hex, configfs-tsm or field JSON), SNP certificate tables, TDX quotes, Azure's HCL reports,
TPM quotes, AWS Nitro documents, Google's launch endorsements, SVSM services manifests, firmware event logs (TPM and CCEL), IMA lists, X.509
certificates (PEM or DER), public keys and signatures of TPMs, PCR values, other tools' containers (Trustee, go-tpm-tools, go-attestation),
audit bundles, final records and wrapped collections (CMW, RFC 9999); told apart by content.

examples:
  evident show report.bin
  evident show vcek.pem -o json
  evident show bundle.json
"""

from __future__ import annotations

import argparse
import json
import sys


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="what to decode; - is standard input")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    from evident.cli.inputs import read_bytes
    from evident.cli.show_formats import describe

    name, content = describe(read_bytes(args.file))
    if args.output == "json":
        print(json.dumps({"format": name, "decoded_only": True, "content": content}, indent=2, ensure_ascii=False))
        return 0
    from evident.reports.view import flatten

    rows = list(flatten(content))
    width = min(max((len(key) for key, _ in rows), default=0), 34)
    print(f"{name} (decoded only, nothing was checked)\n")
    for key, value in rows:
        print(f"  {key:<{width}}  {value}")
    print("\nDecoded, not judged: whether any of this is true, `evident verify` says.", file=sys.stderr)
    return 0
