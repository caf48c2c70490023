"""What a document demands that a place does not give: each with what there is instead, and where it could be had.

The first group is about proof and trust (levels, degrees, parties), by the same policy that `attest` will apply; the second about what the
place needs before a machine can be made there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evident.appraisal.degrees import LEVEL_LAYERS, YOU
from evident.appraisal.identities import CHIPS, NAMES
from evident.appraisal.policy import Policy, RequiredLevels, least_degrees
from evident.errors import EvidentError, Finding
from evident.lifecycle.place import Known, Place, order
from evident.lifecycle.specification import Specification, address
from evident.platforms.opening import Opening
from evident.platforms.order import AGENT_PORT


@dataclass(frozen=True, slots=True)
class Unmet:
    finding: Finding
    alternatives: tuple[str, ...] = ()
    """Ways out, each a sentence; empty where the finding's remedy is the only one."""


def policy(specification: Specification, place: Place) -> Policy:
    """The document's; or what its deployment would be held to without one: strict, and demanding all that is measured."""
    if specification.policy is not None:
        return specification.policy
    nominal = len(LEVEL_LAYERS)
    own = RequiredLevels(nominal=nominal, trustworthy=0 if place.outline.cloud else nominal)
    return Policy(version=1, name="strict", levels=own, allow_simulated=place.simulated)


def unmet(specification: Specification, place: Place, known: Known, everywhere: Sequence[Place]) -> tuple[Unmet, ...]:
    """Everything that stands between the document and an accepted machine in `place`; `everywhere` is where else one could go."""
    demanded = policy(specification, place)
    return (
        *(Unmet(finding) for finding in known.wrong),
        *_levels(demanded, place, everywhere),
        *_degrees(demanded, place, everywhere),
        *_parties(demanded, place, everywhere),
        *_simulated(demanded, place),
        *_identity(specification, place, everywhere),
        *_settings(specification, place),
        *_disks(specification, place, known),
        *_reopened(demanded, specification, place),
        *_secrets(specification, place, known),
        *_spire(demanded, specification, place, known),
        *_network(specification, place),
    )


def _levels(demanded: Policy, place: Place, everywhere: Sequence[Place]) -> Iterator[Unmet]:
    reached, wanted = place.prospect.levels, demanded.levels
    if reached.nominal < wanted.nominal:
        elsewhere = tuple(
            _with(each) for each in everywhere if each.prospect.levels.nominal >= wanted.nominal and not each.profile.simulated
        )
        found = f"level {reached.nominal} at best"
        yield _missing("level", LEVEL_LAYERS[reached.nominal], f"level {wanted.nominal}", found, "Lower levels.nominal.", elsewhere)
    if reached.trustworthy < wanted.trustworthy:
        layer = LEVEL_LAYERS[reached.trustworthy]
        parties = " and ".join(place.trust[LEVEL_LAYERS[wanted.trustworthy - 1]]) or place.profile.provider
        only = f"level {wanted.trustworthy} is reachable only by trusting {parties}"
        found = f"level {reached.trustworthy} without the provider; " + (only if reached.nominal >= wanted.trustworthy else "no more")
        elsewhere = tuple(
            _with(each) for each in everywhere if each.prospect.levels.trustworthy >= wanted.trustworthy and not each.profile.simulated
        )
        remedy = f"Lower levels.trustworthy to {reached.trustworthy} knowingly."
        yield _missing("trustworthy", layer, f"level {wanted.trustworthy} without trusting the provider", found, remedy, elsewhere)


def _degrees(demanded: Policy, place: Place, everywhere: Sequence[Place]) -> Iterator[Unmet]:
    least = least_degrees(demanded)
    for each in place.prospect.layers:
        wanted = least.get(each.layer, 0)
        if each.verifiability < wanted:
            elsewhere = tuple(
                _with(other)
                for other in everywhere
                if not other.profile.simulated
                and any(its.layer == each.layer and its.verifiability >= wanted for its in other.prospect.layers)
            )
            found = f"degree {int(each.verifiability)}: {each.because}"
            remedy = f"Lower levels.verifiability.{each.layer}, or bring a reference value (`references`)."
            yield _missing("degree", each.layer, f"degree {wanted} of the {_words(each.layer)}", found, remedy, elsewhere)


def _parties(demanded: Policy, place: Place, everywhere: Sequence[Place]) -> Iterator[Unmet]:
    accepted = {party.casefold() for party in (*demanded.accepted_trust, YOU)}
    least, told = least_degrees(demanded), set[str]()
    for layer in LEVEL_LAYERS:
        if not least.get(layer):
            continue
        for party in place.trust[layer]:
            if party.casefold() in accepted or party in told:
                continue
            told.add(party)
            elsewhere = tuple(_with(each) for each in everywhere if party not in each.trust[layer] and not each.profile.simulated)
            expected = "only parties that the document accepts: " + (", ".join(demanded.accepted_trust) or "none beside the chip's maker")
            found = f"the {_words(layer)} rests on the word of {party}"
            yield _missing("party", layer, expected, found, f"Add {party!r} to policy.accepted_trust if you take its word.", elsewhere)


def _simulated(demanded: Policy, place: Place) -> Iterator[Unmet]:
    if place.simulated and not demanded.allow_simulated:
        found = "a simulated secure processor" + ("" if place.profile.simulated else ": this host has no SEV-SNP that you may use")
        remedy = "Launch elsewhere, or set policy.allow_simulated to try things out: it proves nothing of any hardware."
        yield _missing("simulated", "root_of_trust", "a hardware root of trust", found, remedy)


def _identity(specification: Specification, place: Place, everywhere: Sequence[Place]) -> Iterator[Unmet]:
    for name in specification.identity:
        lacking = _without(name, place)
        if lacking is not None:
            elsewhere = tuple(_with(each) for each in everywhere if _without(name, each) is None and not each.profile.simulated)
            remedy = f"Leave {name} out of `identity`, or go where machines can show it."
            yield _missing("identity", "identity", f"a machine whose evidence shows the {name} demanded", lacking, remedy, elsewhere)


def _without(name: str, place: Place) -> str | None:
    """Why no machine that is made in `place` could show the identity `name` that was demanded beforehand; None where one could."""
    identity = NAMES[name]
    if identity.new:
        return "that every new machine has another one: it can be demanded of a machine that runs (`evident attest NAME --policy`)"
    if identity.of not in (place.technology, "vtpm"):
        return f"a machine with {place.technology.upper()}, which has none"
    if name in place.outline.identities:
        return None
    holder = place.profile.report_key_holder
    if name in CHIPS and holder.note:
        return f"reports signed by {holder.value}: {holder.note}"
    return f"{place.platform}, which sets none"


def _settings(specification: Specification, place: Place) -> Iterator[Unmet]:
    where = specification.where.get(place.platform, {})
    try:
        place.outline.check(place.platform, where)
        place.outline.items(order(specification, place.platform, place.technology))  # raises what cannot be had there
    except EvidentError as error:
        yield Unmet(error.findings[0])
    else:
        reason = place.outline.fits(place.technology, where)
        if reason is not None:
            remedy = "Choose another type, or another technology."
            yield _missing("technology", "root_of_trust", f"a machine with {place.technology.upper()}", reason, remedy)
    for lacking in place.outline.missing():
        yield _missing("here", "input", f"what a launch on {place.platform} takes on this machine", "not installed", f"Install {lacking}.")


def _disks(specification: Specification, place: Place, known: Known) -> Iterator[Unmet]:
    asked = specification.disks.root_key == "key-server"
    encrypted = known.image.spec.profile == "encrypted" if known.image else asked
    if encrypted != asked:
        found = f"an image of profile {known.image.spec.profile}" if known.image else "no image"
        remedy = "Set disks.root_key to the truth, or build the image with the other profile."
        yield _missing("root-key", "storage", f"an image that goes with disks.root_key: {specification.disks.root_key}", found, remedy)
    if place.outline.cloud and (specification.asks or encrypted) and specification.key_server is None:
        remedy = "Say in `key_server` at which address the machine reaches this host."
        yield _missing("key-server", "storage", "a key server that the machine reaches", "no key_server in the document", remedy)
    if place.outline.cloud and specification.disks.data:
        found = f"{len(specification.disks.data)}"
        yield _missing("data-disk", "storage", "no data disks in a cloud", found, "They exist on qemu only, so far: leave them out.")


def _reopened(demanded: Policy, specification: Specification, place: Place) -> Iterator[Unmet]:
    """What opens a disk without the key server must follow from what was booted, and be nobody's who is not trusted with the disk."""
    way = specification.disks.reopened_by
    if way == "key-server":
        return
    if specification.disks.root_key != "key-server":
        remedy = "Set disks.root_key: key-server, with an image of profile encrypted, or leave disks.reopened_by out."
        yield _missing("reopened-by", "storage", "a disk whose key was released once", "disks.root_key: none", remedy)
    asked = ("attest_first",) * specification.attest_first + tuple(specification.secrets)
    if asked:
        remedy = "Leave out one of the two: leave and secrets come from the key server, at every boot."
        yield _missing("reopened-asks", "storage", f"neither beside disks.reopened_by: {way}", ", ".join(asked), remedy)
    carrier = place.profile.layers["boot_chain"].measured_by.value
    there = "launch" if carrier == "tee" and place.technology == "snp" else "tpm" if carrier == "vtpm" else "key-server"
    if place.profile.simulated or way != there:
        expected = {"launch": "a chip whose keys follow from kernel and command line", "tpm": "a TPM that measures kernel and command line"}
        found = f"{place.name}, whose boot is measured by its {carrier}" + (", and boots no image" if place.profile.simulated else "")
        yield _missing("reopened-by", "storage", expected[way], found, f"Set disks.reopened_by: {there}, or go elsewhere.")
    accepted = {party.casefold() for party in (*demanded.accepted_trust, YOU)}
    for party in place.trust["boot_chain"] if way == there == "tpm" else ():
        if party.casefold() not in accepted:
            remedy = f"Add {party!r} to policy.accepted_trust if it may open the disk, or leave disks.reopened_by out."
            yield _missing("reopened-party", "storage", "nobody but you who could open the disk", f"a TPM of {party}", remedy)


def _secrets(specification: Specification, place: Place, known: Known) -> Iterator[Unmet]:
    asked = ("attest_first",) * specification.attest_first + ("secrets",) * bool(specification.secrets)
    if asked and place.profile.simulated:
        remedy = f"Leave {' and '.join(asked)} out, or launch where an image boots."
        yield _missing("secrets", "storage", "a machine that runs the image's agent, which asks first", "a simulated machine", remedy)
    read = {name for unit in known.image.spec.units for name in unit.secrets} if known.image else specification.secrets.keys()
    if read != specification.secrets.keys():
        expected = "the secrets that the image's units read: " + (", ".join(sorted(read)) or "none")
        remedy = "Name the same in `secrets` of the document, and in `secrets` of the units of the image's specification."
        yield _missing("secrets", "storage", expected, ", ".join(sorted(specification.secrets)) or "none", remedy)


def _spire(demanded: Policy, specification: Specification, place: Place, known: Known) -> Iterator[Unmet]:
    """An image with SPIRE's agent: its machine has to reach spire-server, and an entry there has to be able to say which machine it is."""
    if known.image is None or known.image.spec.spire is None:
        return
    if place.outline.cloud or place.profile.simulated:
        found = f"{place.platform}, " + (
            "where Evident knows no way to spire-server yet" if place.outline.cloud else "which boots no image"
        )
        remedy = "Launch on qemu, or build the image without `spire`."
        yield _missing("spire", "identity", "a place whose machines reach the owner's spire-server", found, remedy)
    several = sorted(name for name, values in specification.held_to(demanded).allowed_identities.items() if len(values) > 1)
    if several:
        remedy = "Name one value of each: SPIRE gives an identity only to who has every selector of an entry."
        yield _missing("spire-identities", "identity", "one value of each identity", ", ".join(several), remedy)


def _network(specification: Specification, place: Place) -> Iterator[Unmet]:
    if not place.outline.cloud:
        return
    openings = specification.network.openings()
    if not any((each.direction, each.protocol, each.port) == ("in", "tcp", AGENT_PORT) for each in openings):
        remedy = f"Add to network.inbound: {{port: {AGENT_PORT}, peer: NETWORK}}, with the network that you attest from."
        yield _missing("agent-port", "input", f"TCP port {AGENT_PORT} open, where the agent answers challenges", "closed", remedy)
    if specification.asks and specification.key_server is not None:
        host, port = address(specification.key_server)
        if not any(_lets_out(each, host, port) for each in openings):
            remedy = f"Add to network.outbound: {{port: {port}, peer: {host}/32}}."
            yield _missing("key-server-port", "input", f"the way out to {specification.key_server} open", "closed", remedy)


def _lets_out(opening: Opening, host: str, port: int) -> bool:
    import ipaddress

    there = ipaddress.ip_address(host) in ipaddress.ip_network(opening.peer)
    return (opening.direction, opening.protocol, opening.port) == ("out", "tcp", port) and there


def _missing(problem: str, layer: str, expected: str, found: str, remedy: str, alternatives: tuple[str, ...] = ()) -> Unmet:
    return Unmet(Finding(f"plan.{problem}", layer, expected, found, remedy), alternatives)


def _with(place: Place) -> str:
    levels = place.prospect.levels
    whom = " and ".join(place.parties) or "nobody beside the chip's maker"
    host = ", on a host with SEV-SNP" if place.simulated else ""
    return f"{place.name}{host}: level {levels.nominal} of 4, {levels.trustworthy} without the provider; trusting {whom}"


def _words(layer: str) -> str:
    return layer.replace("_", " ")
