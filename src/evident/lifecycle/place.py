"""One place where a document could be deployed: what would be made there, what that could prove, and whom one would trust for it.

A profile says what a machine there proves at best. Here it is brought down to *this* deployment: an image of `evident image build` is
recomputed, not rebuilt from source; and a layer whose reference value nobody has brought is compared with nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from evident.appraisal.degrees import Verifiability
from evident.appraisal.profile import Fact, LayerProfile, Profile
from evident.appraisal.prospect import Prospect, prospect, trusted_parties
from evident.errors import EvidentError, Finding
from evident.files import read_private
from evident.image import names
from evident.lifecycle import images, secret_files
from evident.lifecycle.specification import Specification, Technology
from evident.platforms import registry
from evident.platforms.order import AGENT_PORT, Disk, Order
from evident.platforms.outline import Item, Outline

if TYPE_CHECKING:
    from evident.image.manifest import Manifest
    from evident.reference_values.model import ReferenceValue

SOURCE = "this deployment"
RECOMPUTED = "The image is made of a distribution's binaries: recomputed, not rebuilt from source."


class Place(NamedTuple):
    platform: str
    technology: Technology
    outline: Outline
    profile: Profile
    """As this deployment could fill it; see the module."""
    prospect: Prospect
    trust: Mapping[str, tuple[str, ...]]
    """Layer to the parties beside the chip's maker and yourself on whose word it rests, with everything below it."""
    simulated: bool
    differs: str = ""
    """The setting by which it is not the place that the document means: ``boot: direct``."""

    @property
    def parties(self) -> tuple[str, ...]:
        """All whom one would have to trust, for all that is proven there."""
        return tuple(dict.fromkeys(party for each in self.trust.values() for party in each))

    @property
    def name(self) -> str:
        named = f"{self.platform} ({self.technology})" if len(self.outline.technologies) > 1 else self.platform
        return f"{named} with {self.differs}" if self.differs else named


class Known(NamedTuple):
    """What is known of the image and the reference values before anything is made."""

    image: Manifest | None
    """None: it is not there, or not readable, or yet to be built."""
    values: tuple[ReferenceValue, ...]
    """Of the files that the document names."""
    wrong: tuple[Finding, ...]
    """What could not be read, or is not what the document says."""


def look(specification: Specification, spire: Path | None = None) -> Known:
    """Read manifest and reference values, and look at the files of secrets and at the document `spire`, where the image needs it. Raises
    nothing: what is wrong is in the result.
    """
    missing = images.lacking(specification.image)
    wrong = [missing] if missing else []
    stated: Manifest | None = None
    try:
        if images.there(specification.image):
            stated = images.stated(specification.image)
            if stated.file(names.DISK) != specification.image.sha256:
                wrong.append(_other_image(specification, stated))
            if stated.spec.spire and (specification.asks or stated.spec.svids or stated.spec.profile == "encrypted"):
                from evident.lifecycle import enrolment  # here, for most images have no agent

                enrolment.parameters(spire, stated.spec.spire.trust_domain)
    except EvidentError as error:
        wrong += error.findings
    values: list[ReferenceValue] = []
    for path in specification.references:
        from evident.reference_values import documents  # here, for most documents bring none

        try:
            values += documents.load(read_private(Path(path))).values
        except EvidentError as error:
            wrong += error.findings
    try:
        secret_files.check(specification.secrets)
    except EvidentError as error:
        wrong += error.findings
    return Known(stated, tuple(values), tuple(wrong))


def places(specification: Specification, known: Known, at: date, names: Sequence[str]) -> tuple[Place, ...]:
    """Every place on the platforms `names`, in their order, with the technologies that the document allows."""
    wanted = specification.technology
    found = []
    for name in names:
        outline = registry.OUTLINES[name]
        for technology in outline.technologies:
            if wanted in ("best", technology):
                profile = registry.profile(registry.profile_id(name, technology, specification.where.get(name, {})), at)
                found.append(_place(name, technology, outline, as_ordered(profile, outline, known)))
    return tuple(found)


def otherwise(specification: Specification, place: Place, known: Known, at: date) -> tuple[Place, ...]:
    """The same platform with another choice of one setting, where its machines are of another kind then."""
    where, outline = specification.where.get(place.platform, {}), place.outline
    found = []
    for name, setting in outline.settings.items():
        for choice in setting.choices:
            profile = registry.profile(registry.profile_id(place.platform, place.technology, {**where, name: choice}), at)
            if profile.id != place.profile.id:
                other = _place(place.platform, place.technology, outline, as_ordered(profile, outline, known))
                found.append(other._replace(differs=f"{name}: {choice}"))
    return tuple(found)


def _place(name: str, technology: str, outline: Outline, profile: Profile) -> Place:
    simulated = outline.simulated() or profile.simulated
    shown: Technology = "tdx" if technology == "tdx" else "snp"
    return Place(name, shown, outline, profile, replace(prospect(profile), simulated=simulated), trusted_parties(profile), simulated)


def order(specification: Specification, platform: str, technology: Technology) -> Order:
    """What would be ordered, as far as it is known before an image is prepared: enough for `Outline.items`."""
    disk = Path(specification.image.path) / names.DISK
    return Order(
        vcpus=specification.size.vcpus,
        memory_mib=specification.size.memory_mib,
        disks=(Disk(str(disk)), *(Disk(path) for path in specification.disks.data)),
        published=tuple(each.port for each in specification.network.inbound if each.protocol == "tcp" and each.port != AGENT_PORT),
        where=specification.where.get(platform, {}),
        technology=technology,
        openings=specification.network.openings(),
    )


def items(specification: Specification, place: Place) -> tuple[Item, ...]:
    """What would be made; nothing where that place cannot make it."""
    wanted = order(specification, place.platform, place.technology)
    try:
        place.outline.check(place.platform, wanted.where)
        made = place.outline.items(wanted)
    except EvidentError:  # said among the unmet
        return ()
    image = specification.image
    if image.spec is None or images.there(image):
        return made
    return (Item("build", f"the image first, from {Path(image.spec).name}, held against image.sha256"), *made)


def as_ordered(profile: Profile, outline: Outline, known: Known) -> Profile:
    """`profile` with the degrees that this deployment can reach there."""
    layers = dict(profile.layers)
    layers["firmware"] = _brought_down(profile, "firmware", *_firmware(profile, outline, known))
    unlisted = Fact(0, SOURCE, "The image's kernel keeps no list of what is loaded (IMA).")
    layers["userspace"] = LayerProfile(unlisted, Fact("nobody", SOURCE), Fact("none", SOURCE))
    for name in ("boot_chain", "root_filesystem"):
        layers[name] = _brought_down(profile, name, int(Verifiability.BINARY), "you", RECOMPUTED)
    return replace(profile, layers=layers)


def _brought_down(profile: Profile, name: str, degree: int, endorser: str, note: str) -> LayerProfile:
    layer = profile.layers[name]
    if degree >= layer.best.value:
        return layer
    return replace(layer, best=Fact(degree, SOURCE, note), endorser=Fact(endorser, SOURCE))


def _firmware(profile: Profile, outline: Outline, known: Known) -> tuple[int, str, str]:
    """Degree, endorser and reason."""
    given = [value for value in known.values if "firmware" in value.layers]
    if given:
        from evident.appraisal.matching import worth  # likewise

        best = max(given, key=worth)
        return worth(best), best.endorser, f"By the reference values of the document ({best.provenance.origin})."
    source = outline.firmware(profile.technology)
    if source == "platform":
        return int(Verifiability.BINARY), "you", "The firmware is launched as a binary that you hold."
    if source == "evidence":
        return int(Verifiability.REFERENCE), profile.provider, f"{profile.provider} signs the value that comes with the evidence."
    return int(Verifiability.LINK), "nobody", "The document names no reference value of its firmware (references)."


def _other_image(specification: Specification, stated: Manifest) -> Finding:
    return Finding(
        "plan.image",
        "boot_chain",
        f"the image whose disk.raw has the SHA-256 {specification.image.sha256.hex()}",
        stated.file(names.DISK).hex(),
        "Name the image that you mean: `image.path` or `image.sha256` is of another one.",
    )
