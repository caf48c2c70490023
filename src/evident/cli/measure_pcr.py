"""Predict the TPM's PCR 4, 9, 11, 12 and 13 (and 7) of a boot: of a unified kernel image, a disk image, or kernel, initrd and command line.

examples:
  evident measure pcr --uki image.efi --phase enter-initrd --phase leave-initrd --phase sysinit --phase ready
  evident measure pcr --disk disk.raw --bank sha256 --bank sha384 --pcrlock-out expected.pcrlock
  evident measure pcr --kernel vmlinuz --initrd initrd.img --append "console=ttyS0" --reference-out reference.json
  evident measure pcr --uki image.efi --secure-boot on --variables efivars/ --authority db-cert.der
  evident measure pcr --pcrlock expected.pcrlock                      the values that an existing file stands for

PCR 7 is predicted when --secure-boot is given: --variables names a directory with the files PK, KEK, db and dbx (signature lists), or
with efivarfs files as /sys/firmware/efi/efivars has them. What the prediction assumes is printed with it.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from evident.cli import options

if TYPE_CHECKING:
    from evident.errors import UsageError
    from evident.reference_values.pcr import Measurement, Prediction, SecureBootVariables

MAX_ARTIFACT_BYTES = 1024 * 1024 * 1024
BANKS = ("sha1", "sha256", "sha384", "sha512")


def configure(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--uki", metavar="FILE", help="unified kernel image (EFI application)")
    source.add_argument("--disk", metavar="FILE", help="raw disk image with an EFI system partition")
    source.add_argument("--kernel", metavar="FILE", help="kernel for direct boot through OVMF")
    source.add_argument("--pcrlock", metavar="FILE", help="records of systemd-pcrlock, or an expected-PCR file")
    parser.add_argument("--initrd", metavar="FILE", help="initial RAM disk, with --kernel")
    parser.add_argument("--append", metavar="TEXT", default="", help="kernel command line, with --kernel")
    parser.add_argument(
        "--kernel-as-is", action="store_true", help="the VMM leaves the kernel's header alone (SEV guests): predict PCR 4 too"
    )
    parser.add_argument("--bank", choices=BANKS, action="append", help="PCR bank, repeatable (default sha256)")
    parser.add_argument(
        "--phase", metavar="WORD", action="append", default=[], help="boot phase measured by the time of the quote, repeatable"
    )
    options.add_stub_version(parser)
    parser.add_argument("--secure-boot", choices=("on", "off"), help="predict PCR 7 with Secure Boot on or off")
    parser.add_argument("--variables", metavar="DIR", help="Secure Boot variables (default: none exist)")
    parser.add_argument(
        "--authority", metavar="CERT.der", action="append", default=[], help="certificate of db that verifies the boot images"
    )
    parser.add_argument("--pcrlock-out", metavar="FILE", help="write the measurements as a .pcrlock file")
    parser.add_argument("--reference-out", metavar="FILE", help="write the predictions as reference values")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the output")


def run(args: argparse.Namespace) -> int:
    import json
    from datetime import UTC, datetime
    from pathlib import Path

    from evident import codec
    from evident.cli.outputs import write_file
    from evident.reference_values import documents, pcr
    from evident.reference_values.model import ReferenceSet

    banks = tuple(dict.fromkeys(args.bank or ["sha256"]))
    prediction = _predict(args, banks)
    if args.pcrlock_out:
        write_file(args.pcrlock_out, pcr.to_pcrlock(prediction.measurements))
    named = args.uki or args.disk or args.kernel or args.pcrlock
    now = datetime.now(UTC).replace(microsecond=0)
    values = tuple(
        value
        for bank in banks
        for value in pcr.references(prediction, bank=bank, origin=f"measured from {Path(named).name}", recorded_at=now)
    )
    if args.reference_out:
        write_file(args.reference_out, documents.dump(ReferenceSet(1, values, name=f"evident measure pcr, {Path(named).name}")))
    if args.output == "json":
        pcrs = {bank: {str(index): value.hex() for index, value in prediction.values(bank).items()} for bank in banks}
        print(
            json.dumps({"pcrs": pcrs, "assumptions": prediction.assumptions, "reference": codec.encode(ReferenceSet(1, values))}, indent=2)
        )
    else:
        print(_text(prediction, banks))
    return 0


def _predict(args: argparse.Namespace, banks: tuple[str, ...]) -> Prediction:
    from dataclasses import replace

    from evident.reference_values.pcr import secure_boot_policy

    prediction = _boot(args, banks)
    if args.secure_boot is None:
        for option in ("variables", "authority"):
            if getattr(args, option):
                raise _usage("secure-boot", f"--secure-boot with --{option}", "no --secure-boot", "Say whether Secure Boot is on or off.")
        return prediction
    policy = secure_boot_policy(_variables(args), banks)
    return replace(prediction, measurements=tuple(sorted((*prediction.measurements, *policy), key=_by_register)))


def _by_register(measurement: Measurement) -> int:
    return measurement.pcr


def _boot(args: argparse.Namespace, banks: tuple[str, ...]) -> Prediction:
    from evident.cli.inputs import map_file, read_bytes
    from evident.reference_values import pcr, uki

    if args.kernel is None and (args.initrd or args.append):
        raise _usage("kernel", "--kernel with --initrd or --append", "no --kernel", "A UKI or a disk brings its own.")
    enforced = args.secure_boot == "on"
    if args.uki:
        image = read_bytes(args.uki, limit=MAX_ARTIFACT_BYTES)
        return uki.predict_uki(image, banks=banks, phases=args.phase, stub_version=args.stub_version, secure_boot=enforced)
    if args.disk:
        with map_file(args.disk) as disk:
            return uki.predict_disk(disk, banks=banks, phases=args.phase, stub_version=args.stub_version, secure_boot=enforced)
    if args.pcrlock:
        return pcr.Prediction(pcr.from_pcrlock(read_bytes(args.pcrlock)), assumptions=("the file lists every measurement",))
    initrd = read_bytes(args.initrd, limit=MAX_ARTIFACT_BYTES) if args.initrd else None
    return uki.predict_direct(
        read_bytes(args.kernel, limit=MAX_ARTIFACT_BYTES), initrd, args.append, banks=banks, kernel_as_is=args.kernel_as_is
    )


def _variables(args: argparse.Namespace) -> SecureBootVariables:
    from pathlib import Path

    from evident.cli.inputs import read_bytes
    from evident.reference_values.pcr import SecureBootVariables

    contents: dict[str, bytes] = {}
    for name in ("PK", "KEK", "db", "dbx"):
        plain = Path(args.variables) / name if args.variables else None
        kernel = sorted(Path(args.variables).glob(f"{name}-????????-????-????-????-????????????")) if args.variables else []
        if plain is not None and plain.is_file():
            contents[name.lower()] = read_bytes(plain)
        elif kernel:
            contents[name.lower()] = read_bytes(kernel[0])[4:]  # efivarfs puts four bytes of attributes first
    authorities = tuple(read_bytes(path) for path in args.authority)
    return SecureBootVariables(enabled=args.secure_boot == "on", authorities=authorities, **contents)


def _usage(name: str, expected: str, found: str, remedy: str) -> UsageError:
    from evident.errors import UsageError

    return UsageError.of(f"usage.{name}", expected=expected, found=found, remedy=remedy)


def _text(prediction: Prediction, banks: tuple[str, ...]) -> str:
    lines: list[str] = []
    for bank in banks:
        values = prediction.values(bank)
        lines += [f"{bank}  PCR {index:<2}  {value.hex()}" for index, value in values.items()]
    lines.append("")
    lines += [f"PCR {item.pcr:<2}  {item.digests[banks[0]].hex()}  {item.what or 'recorded'}" for item in prediction.measurements]
    lines += ["", *(f"assumes: {assumption}" for assumption in prediction.assumptions)]
    return "\n".join(lines)
