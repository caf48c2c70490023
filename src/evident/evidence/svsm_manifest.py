"""The services manifest of an SVSM: which services run beside the guest, and what each says of itself. Little endian.

Source: AMD publication 58019 "Secure VM Service Module for SEV-SNP Guests" revision 1.00, table 12 (Services Manifest) and section
8.3.1: the vTPM's manifest, version 0, is the public area of its endorsement key.

    0x00  GUID 63849ebb-..., u32 size of everything, u32 number of services
    0x18  for each service: GUID, u32 offset, u32 length; then the contents, one after the other
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from evident.errors import Malformed
from evident.evidence.reader import Reader

WHAT = "svsm.manifest"
MANIFEST_GUID = UUID("63849ebb-3d92-4670-a1ff-58f9c94b87bb")
VTPM_GUID = UUID("c476f1eb-0123-45a5-9641-b4e7dde5bfe3")
ENTRY_BYTES = 24
MAX_SERVICES = 32
MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Service:
    guid: UUID
    content: bytes


@dataclass(frozen=True, slots=True)
class ServicesManifest:
    services: tuple[Service, ...]
    raw: bytes

    def get(self, guid: UUID) -> bytes | None:
        """What the service says of itself, None when it does not run."""
        return next((service.content for service in self.services if service.guid == guid), None)


def looks_like(raw: bytes) -> bool:
    """Is this the manifest of all services? The manifest of a single service has no head of its own."""
    return raw[:16] == MANIFEST_GUID.bytes_le


def parse(raw: bytes) -> ServicesManifest:
    """Parse the manifest of all services. Raises `Malformed`."""
    if len(raw) > MAX_BYTES:
        raise _malformed("size", f"at most {MAX_BYTES} bytes", f"{len(raw)} bytes")
    reader = Reader(raw, WHAT)
    guid = UUID(bytes_le=reader.take(16, "GUID"))
    size, count = reader.u32("size"), reader.u32("number of services")
    if guid != MANIFEST_GUID or size != len(raw) or count > MAX_SERVICES:
        raise _malformed("head", f"GUID {MANIFEST_GUID}, {len(raw)} bytes, at most {MAX_SERVICES} services", f"{guid}, {size}, {count}")
    rows = [(UUID(bytes_le=reader.take(16, "service")), reader.u32("offset"), reader.u32("length")) for _ in range(count)]
    services: list[Service] = []
    for service, offset, length in rows:
        if offset != reader.offset or service in (known.guid for known in services):
            raise _malformed("service", f"every service once, its contents at {reader.offset}", f"{service} at {offset}")
        services.append(Service(service, reader.take(length, f"service {service}")))
    reader.end()
    return ServicesManifest(tuple(services), raw)


def serialize(services: tuple[Service, ...]) -> bytes:
    """The wire form of a manifest of all services."""
    offset = ENTRY_BYTES * (1 + len(services))
    size = offset + sum(len(service.content) for service in services)
    parts = [MANIFEST_GUID.bytes_le + size.to_bytes(4, "little") + len(services).to_bytes(4, "little")]
    for service in services:
        parts.append(service.guid.bytes_le + offset.to_bytes(4, "little") + len(service.content).to_bytes(4, "little"))
        offset += len(service.content)
    return b"".join((*parts, *(service.content for service in services)))


def _malformed(problem: str, expected: str, found: str) -> Malformed:
    return Malformed.of(
        f"{WHAT}.{problem}", expected=expected, found=found, remedy="Read manifestblob again (configfs-tsm, service_provider svsm)."
    )
