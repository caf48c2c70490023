"""Under which names the machines of a deployment are known at the owner's spire-server, and what has to be found of whoever bears them.

deployments/<name>/spire.json     disk to machine: every entry that may be there; written before one is made, after one is removed

A machine is enrolled once its disk is under its terms, and before its deployment counts as launched: its image has been customised and
measured by then (BW-07). Killed in between, the next `up` finds the disk of the launch before on record, and removes its entries with its
key; so do `revoke` and `down`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from evident import codec
from evident.appraisal.policy import Policy
from evident.errors import EvidentError, Finding, Indeterminate, PolicyRefused, UsageError
from evident.files import read_private, write_private
from evident.identity import registration, selectors, spiffe_id, spire_cli, spire_document
from evident.identity.registration import Entry
from evident.identity.spiffe_id import SpiffeId
from evident.identity.spire_cli import Ask
from evident.identity.spire_document import SpireDocument
from evident.keys.store import VolumeStore
from evident.lifecycle import keystore
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.journal import State
from evident.lifecycle.keystore import BySvid
from evident.platforms.driver import SPIRE_SERVER
from evident.reference_values import programs
from evident.reference_values.model import ReferenceValue, level
from evident.verification import snp_tpm

FILE: Final = "spire.json"


@dataclass(frozen=True, slots=True)
class _Machine:
    spiffe_id: str
    interpreter: bytes
    units: Mapping[str, int]
    """Both as in `BySvid`."""


@dataclass(frozen=True, slots=True)
class _Kept:
    version: Literal[1]
    trust_domain: str
    machines: Mapping[str, _Machine] = field(default_factory=dict)
    """By disk."""


def document(named: Path | None, trust_domain: str) -> SpireDocument:
    """The owner's (`Surroundings.spire`), whose trust domain has to be that. Raises `UsageError` ``spire.document``, and what
    `spire_document.read` does.
    """
    if named is None:
        raise _refused(trust_domain, "no EVIDENT_SPIRE")
    said = spire_document.read(named)
    if said.trust_domain != trust_domain:
        raise _refused(trust_domain, f"that of {said.trust_domain!r}")
    return said


def parameters(named: Path | None, trust_domain: str) -> dict[str, str]:
    """What a guest of that trust domain is told, so that it is measured: whom it takes for its key server, and where spire-server is.

    Raises as `document`, and `UsageError` ``spire.missing`` where this host lacks what a launch of it takes.
    """
    said = document(named, trust_domain)
    spire_cli.program()
    if importlib.util.find_spec("grpc") is None:
        raise UsageError.of(
            "spire.missing",
            expected="gRPC for Python, by which the key server gets its own SVID",
            found="not installed",
            remedy="Install it: pip install 'evident[spire]'.",
        )
    return {"evident.keyserver": said.key_server, "evident.spire": SPIRE_SERVER}


def served_by(target: Deployment) -> SpireDocument | None:
    """The document by which the key server of `target` has its own SVID; None where its machines ask by evidence. Raises as `document`."""
    kept = _kept(target)
    return document(target.surroundings.spire, kept.trust_domain) if kept.machines else None


def asking(target: Deployment, trust_domain: str) -> SpiffeId:
    """The name of what asks for the key on the machine that `target` is seen through."""
    return registration.key_id(_node(target, trust_domain))


def check_update(coming: Deployment, *, by_svid: bool) -> None:
    """Raises `UsageError` ``spire.update`` where the machine to come asks in another way than those there are: one server serves all."""
    volumes = VolumeStore(keystore.directory(coming.surroundings))
    revoked = {each.value for each in volumes.revocations() if each.name == "disk"}
    there = [volumes.get(disk) for disk in volumes.disks_under(coming.name) if disk not in revoked]
    if any((volume.spiffe_id is not None) != by_svid for volume in there if volume.machine != coming.number):
        raise UsageError.of(
            "spire.update",
            expected="an image that asks for its key as the one that runs does",
            found="one with SPIRE's agent, and one without",
            remedy=f"`evident down {coming.name}`, then `evident up` with the other image.",
        )


def enrol(target: Deployment, disk: str, asks: BySvid) -> None:
    """Register the machine that `target` is seen through, which asks for `disk`.

    Raises `Indeterminate` and `PolicyRefused` ``spire.*`` where no entry could say what is demanded of it, or none can be made.
    """
    machine = _Machine(str(_node(target, asks.trust_domain)), asks.interpreter, asks.units)
    wanted = _entries(target, disk, machine)
    ask = _client(target, asks.trust_domain)
    write_private(target.directory / FILE, codec.encode(_Kept(1, asks.trust_domain, {**_kept(target).machines, disk: machine})))
    registration.register(ask, wanted)


def restore(target: Deployment) -> None:
    """Have the entries of its machines say what they said when those were enrolled, whatever was done to them since. Raises as `enrol`."""
    kept = _kept(target)
    volumes = VolumeStore(keystore.directory(target.surroundings))
    for disk, each in kept.machines.items():
        wanted = _entries(target.at(volumes.get(disk).machine), disk, each)
        registration.register(_client(target, kept.trust_domain), wanted)


def remove(target: Deployment, disk: str) -> None:
    """Nobody is given a name of the machine that asked for `disk` any more. Raises what spire-server does; nothing where none is known."""
    kept = _kept(target)
    if disk not in kept.machines:
        return
    machine = kept.machines[disk]
    registration.remove(_client(target, kept.trust_domain), spiffe_id.parse(machine.spiffe_id), disk, machine.units)
    left = {name: each for name, each in kept.machines.items() if name != disk}
    if left:
        write_private(target.directory / FILE, codec.encode(_Kept(1, kept.trust_domain, left)))
    else:
        (target.directory / FILE).unlink()


def remove_all(target: Deployment) -> EvidentError | None:
    """`remove` every machine of `target`, which may be repeated; or what kept spire-server from it, for whoever has more to do before it is
    raised. Its last finding is ``spire.unremoved``.
    """
    try:
        for disk in _kept(target).machines:
            remove(target, disk)
    except EvidentError as error:
        return error.followed_by(_unremoved(target))
    return None


def _demanded(target: Deployment) -> tuple[str, ...]:
    """What its entry asks of an agent. The key server sees an SVID and no evidence, so all that policy demands has to be said here."""
    own, policy = target.own_references, target.policy
    check_levels(policy, own.values)
    for name, values in policy.allowed_identities.items():
        if len(values) != 1:
            raise Indeterminate.of(
                "spire.alternatives",
                expected=f"one {name} that the machine may have: SPIRE gives an identity only to who has every selector of an entry",
                found=f"{len(values)}",
                remedy=f"Name one {name} for each machine.",
                layer="identity",
            )
    return (
        *selectors.expected(own),
        *(() if policy.allow_simulated else ("simulated:false",)),
        *(f"{name}:{value.lower()}" for name, (value,) in policy.allowed_identities.items()),
    )


def check_levels(policy: Policy, values: Sequence[ReferenceValue]) -> None:
    """An entry of these reference values proves what the policy demands, to whom it trusts."""
    by_tee = [value for value in values if not value.register.startswith("pcr") and value.register != programs.REGISTER]
    accepted = {party.casefold() for party in policy.accepted_trust}
    trusts_tpm = snp_tpm.OPERATOR.casefold() in accepted  # on this host, the only place so far, a TPM is its operator's
    for what, wanted, reached in (
        ("nominal", policy.levels.nominal, level(values if trusts_tpm else by_tee)),
        ("trustworthy", policy.levels.trustworthy, level(by_tee)),
    ):
        if wanted > reached:
            raise PolicyRefused.of(
                "spire.level",
                expected=f"reference values that prove levels.{what}: {wanted} to whom the policy trusts, for an entry demands those",
                found=f"what proves level {reached}",
                remedy=f"Bring reference values of the layers above, lower levels.{what} knowingly, or accept {snp_tpm.OPERATOR!r}.",
            )


def _entries(target: Deployment, disk: str, machine: _Machine) -> tuple[Entry, ...]:
    node = spiffe_id.parse(machine.spiffe_id)
    own = registration.entries(node, disk, _demanded(target), machine.interpreter)
    return (*own, *registration.unit_entries(node, disk, machine.units))


def _node(target: Deployment, trust_domain: str) -> SpiffeId:
    life = 1 + sum(event.state is State.DESTROYED for event in target.journal.events())
    return registration.node_id(trust_domain, target.name, target.number, life)


def _client(target: Deployment, trust_domain: str) -> Ask:
    return spire_cli.client(Path(document(target.surroundings.spire, trust_domain).server_socket))


def _kept(target: Deployment) -> _Kept:
    path = target.directory / FILE
    return codec.decode(_Kept, codec.loads(read_private(path), "spire.kept"), "spire.kept") if path.exists() else _Kept(1, "")


def _refused(trust_domain: str, found: str) -> UsageError:
    return UsageError.of(
        "spire.document",
        expected=f"the document of your spire-server of the trust domain {trust_domain!r}",
        found=found,
        remedy="Let EVIDENT_SPIRE name it (docs/spire.md).",
    )


def _unremoved(target: Deployment) -> Finding:
    return Finding(
        "spire.unremoved",
        "identity",
        f"no entry of {target.name!r} at spire-server any more",
        "entries that may be there still; they open nothing, for every disk is revoked",
        "Repeat the command once spire-server answers.",
    )
