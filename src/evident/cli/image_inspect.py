"""Look at an image before it boots: what is in it, how that is known, and what it will measure.

examples:
  evident image inspect image.efi
  evident image inspect disk.raw -o json
  evident image inspect shop.image/manifest.json
  evident image inspect shop.image/manifest.json --endorsement rebuilt --signer alice.pem

`inspect` knows EFI applications, unified kernel images, raw disk images with an EFI system partition, and the manifests of `image build`
(the sizes of files that lie beside one are shown). It judges nothing, signatures of manifests included; `evident measure pcr` turns an
image into expected values. With --endorsement it counts who built the packages of a manifest from source, and says which of its components
are of degree 4 by that, on whose word.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from evident.cli.image_reproduce import configure_trust, word_of

if TYPE_CHECKING:
    from evident.evidence.disk import Buffer
    from evident.evidence.pe import PeImage

ALGORITHMS = ("sha256", "sha384")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")
    configure_trust(parser)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the output")


def run(args: argparse.Namespace) -> int:
    import json

    from evident.cli.inputs import map_file

    with map_file(args.file) as image:
        said = _manifest(image[:], args) if image[:1] == b"{" else _image(image)
    print(json.dumps(said, indent=2) if args.output == "json" else "\n".join(_lines(said)))
    return 0


def _image(image: Buffer) -> dict[str, Any]:
    from evident.evidence import pe

    return _application(image[:]) if pe.looks_like_pe(image[:2]) else _disk(image)


def _manifest(raw: bytes, args: argparse.Namespace) -> dict[str, Any]:
    from pathlib import Path

    from evident import codec
    from evident.image import manifest, names, provenance
    from evident.reference_values.model import Strength

    stated, _ = manifest.read(raw)
    built = provenance.from_source(stated.lock, word_of(args)) if args.endorsement else {}
    degrees = manifest.degrees(stated, built)
    parts, files = stated.inventory.initrd_bytes, (names.KERNEL, names.INITRD, names.ROOT, names.HASH, names.UKI, names.DISK)
    beside = [(file, Path(args.file).parent / file) for file in files]
    return {
        "kind": "image manifest",
        "image": stated.spec.name,
        "profile": stated.spec.profile,
        "built_by_evident": stated.evident,
        "built_at": codec.format_time(stated.built_at),
        "bytes": {file: path.stat().st_size for file, path in beside if path.is_file()},
        "bytes_of_the_initrd_unpacked": {"all": sum(parts.values()), **dict(sorted(parts.items(), key=lambda part: -part[1]))},
        "python_modules": stated.inventory.python_modules,
        "kernel_modules": len(stated.inventory.kernel_modules),
        "degree": int(min(degree.strength for degree in degrees)),
        "made_from_source": list(stated.from_source),
        "packages_rebuilt": dict(sorted(built.items())),
        "rebuilt_from_source": {degree.component: degree.by for degree in degrees if degree.by},
        "other_components": sum(degree.strength is not Strength.REBUILT for degree in degrees),
        "command_line": stated.command_line,
    }


def _application(raw: bytes) -> dict[str, Any]:
    import hashlib

    from evident.evidence import pe, uki

    image = pe.parse(raw)
    said: dict[str, Any] = {
        "kind": "unified kernel image" if uki.is_uki(image) else "EFI application",
        "file_sha256": hashlib.sha256(raw).hexdigest(),
        "signed": bool(image.certificates[1]),
        "authenticode": {algorithm: pe.authenticode(image, algorithm).hex() for algorithm in ALGORITHMS},
        "sections": {section.name: section.virtual_size for section in image.sections},
    }
    return said | (_uki(raw) if uki.is_uki(image) else {})


def _uki(raw: bytes) -> dict[str, Any]:
    import hashlib

    from evident.errors import Unsupported
    from evident.evidence import pe, uki
    from evident.reference_values.pcr import values
    from evident.reference_values.uki import predict_uki

    parsed = uki.parse(raw)
    inner: PeImage = pe.parse(parsed.sections[".linux"])
    said: dict[str, Any] = {
        "stub_version": parsed.stub_version,
        "os_release": parsed.os_release,
        "kernel_release": parsed.sections.get(".uname", b"").rstrip(b"\0\n").decode("utf-8", "replace") or None,
        "command_line": parsed.command_line,
        "kernel_authenticode": {algorithm: pe.authenticode(inner, algorithm).hex() for algorithm in ALGORITHMS},
        "section_sha256": {name: hashlib.sha256(content).hexdigest() for name, content in parsed.sections.items()},
    }
    if ".initrd" in parsed.sections:
        said["agents_in_initrd"] = _agents(parsed.sections[".initrd"])
    try:
        prediction = predict_uki(raw, banks=ALGORITHMS)
    except Unsupported as unknown:
        return said | {"pcrs": None, "pcrs_unknown_because": str(unknown)}
    said["pcrs"] = {
        bank: {str(index): value.hex() for index, value in values(prediction.measurements, bank).items()} for bank in ALGORITHMS
    }
    return said | {"assumptions": list(prediction.assumptions)}


def _agents(initrd: bytes) -> list[str] | str:
    """Provisioning agents in an initial RAM disk, or why it cannot be said."""
    from evident.errors import Malformed, Unsupported
    from evident.reference_values.agents import find_in_initrd

    try:
        return list(find_in_initrd(initrd))
    except (Malformed, Unsupported) as unknown:
        return f"unknown: {unknown.findings[0].found}"


def _disk(image: Buffer) -> dict[str, Any]:
    from evident.evidence import disk

    table, sector = disk.read_partition_table(image)
    system = disk.open_system_partition(image)
    applications = {path: _application(system.read(path)) for path, _ in system.walk() if path.lower().endswith(".efi")}
    return {
        "kind": "disk image",
        "disk_guid": table.disk,
        "sector_bytes": sector,
        "partitions": [
            {"guid": item.guid, "type": item.type, "name": item.name, "bytes": (item.last - item.first + 1) * sector}
            for item in table.partitions
        ],
        "applications": applications,
    }


def _lines(said: dict[str, Any], indent: str = "") -> list[str]:
    lines: list[str] = []
    for name, value in said.items():
        title = f"{indent}{name.replace('_', ' ')}"
        if isinstance(value, dict):
            lines += [f"{title}:", *_lines(value, indent + "  ")]
        elif isinstance(value, list):
            lines.append(f"{title}:")
            for item in value:
                lines.append(
                    f"{indent}  - " + (", ".join(f"{key} {text}" for key, text in item.items()) if isinstance(item, dict) else str(item))
                )
        else:
            lines.append(f"{title}: {'none' if value is None else value}")
    return lines
