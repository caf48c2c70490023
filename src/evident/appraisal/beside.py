"""What stands beside the levels and never raises them: vTPM, user space, provisioning, storage, identity, devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evident.appraisal.degrees import Verifiability
from evident.appraisal.layers import Ground
from evident.appraisal.policy import Policy
from evident.appraisal.remarks import Remark, refusal
from evident.appraisal.requirements import agents_in_image
from evident.appraisal.statement import Caveat, Layer
from evident.verification.facts import Facts, Vtpm
from evident.verification.remarks import NO_REMEDY
from evident.verification.verified import Verified

CONFIGURATION_REGISTERS = ("host_data", "mrconfigid")
"""Registers in which an owner binds launch configuration (SEV-SNP HOST_DATA, TDX MRCONFIGID)."""

OUTSIDE = ("hypervisor", "host", "unknown")
"""Where a vTPM is a file in somebody's hands."""
LOCATION_WORDS = {
    "hypervisor": "in the provider's hypervisor, outside the confidential VM",
    "host": "on the host, outside the confidential VM",
    "paravisor": "in the paravisor, inside the confidential VM",
    "svsm": "in a service module inside the confidential VM, out of the guest kernel's reach",
    "chip": "in a chip of the host",
    "unknown": "at an unknown place",
    "none": "nowhere",
}


def beside(
    verified: Verified[Any], policy: Policy, provider: str, needs_provider: bool, grounds: Mapping[str, Ground]
) -> tuple[Layer, ...]:
    """The layers beside the levels, in the order in which a statement shows them."""
    facts = verified.facts
    freshness = "for this challenge" if facts.freshness.scope == "challenge" else "per boot"
    return (
        vtpm(facts, provider, needs_provider, freshness),
        userspace(facts, provider, needs_provider, freshness),
        provisioning(facts, policy, provider, freshness, agents_in_image(grounds)),
        storage(provider, grounds["root_filesystem"], freshness),
        identity(facts, freshness),
        devices(provider),
    )


def userspace_remarks(facts: Facts, policy: Policy) -> tuple[Remark, ...]:
    """A violation is a failure, not a remark, for whoever demands anything of user space (AT-34)."""
    runtime = facts.runtime
    if runtime is None or not policy.levels.verifiability.get("userspace", 0):
        return ()
    remarks = []
    if runtime.violations:
        remarks.append(
            refusal(
                "userspace.violations",
                "userspace",
                expected="no file changed while it was being measured",
                found=f"{runtime.violations} violations among {runtime.entries} entries: {_some(runtime.violated)}",
                remedy="Boot again; if violations return, mount what changes without execution.",
            )
        )
    if runtime.unlisted:
        remarks.append(
            refusal(
                "userspace.unlisted",
                "userspace",
                expected="only files that the allow-list names",
                found=_some(runtime.unlisted),
                remedy="Find out what ran; add it to the allow-list only if it is yours.",
            )
        )
    return tuple(remarks)


def _some(paths: tuple[str, ...]) -> str:
    return ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")


def _layer(
    name: str,
    degree: int,
    summary: str,
    *,
    parties: tuple[str, ...],
    residual: tuple[str, ...],
    needs_provider: bool = True,
    freshness: str = "not known",
    evidence: tuple[str, ...] = (),
    caveats: tuple[Caveat, ...] = (),
) -> Layer:
    return Layer(
        name=name,
        level=None,
        verifiability=Verifiability(degree),
        summary=summary,
        endorsers=parties,
        residual_trust=residual,
        trusted_parties=parties,
        needs_provider=needs_provider,
        freshness=freshness,
        evidence=evidence,
        caveats=caveats,
    )


def vtpm(facts: Facts, provider: str, needs_provider: bool, freshness: str) -> Layer:
    """Where the vTPM lives and what anchors it (EV-18)."""
    found = facts.vtpm
    if found is None:
        return _layer("vtpm", 0, "No vTPM was used; nothing rests on one.", parties=(), residual=(), needs_provider=False)
    where = LOCATION_WORDS[found.location]
    anchored = found.anchor == "tee"
    words = {
        "tee": "its key is bound by the hardware's signed report",
        "certificate": f"its key is vouched for by a certificate of {found.operator}",
        "operator": f"its key is in the TPM that {found.operator} names for this machine",
        "none": "nothing vouches for its key",
    }
    degree = Verifiability.NONE if found.anchor == "none" else Verifiability.LINK
    residual = () if not needs_provider else (_vtpm_residual(found, provider),)
    return _layer(
        "vtpm",
        int(degree),
        f"The vTPM runs {where}; {words[found.anchor]}.",
        parties=(found.operator,),
        residual=residual,
        needs_provider=needs_provider,
        freshness=freshness,
        evidence=("quote and its signature", *(("key digest in the signed report",) if anchored else ())),
        caveats=(*(() if anchored else (_not_anchored(found),)), *((_copied(),) if found.location in OUTSIDE else ())),
    )


def _vtpm_residual(found: Vtpm, provider: str) -> str:
    if found.location in (*OUTSIDE, "chip"):
        return f"{provider} runs the vTPM outside the confidential VM and could quote any boot it likes without being noticed."
    return f"{found.operator} wrote the code that holds the vTPM inside the VM; a dishonest build could quote any boot."


def _not_anchored(found: Vtpm) -> Caveat:
    return Caveat(
        "vtpm.not-anchored",
        f"The vTPM's key is not bound by the hardware's report: its quotes are {found.operator}'s word.",
        "Bind the key in the report's user data where the guest can; it proves nearness, not honesty, of a vTPM outside the VM.",
    )


def _copied() -> Caveat:
    """AT-52."""
    return Caveat(
        "vtpm.state",
        "Whoever keeps the vTPM's state can start a copy of it, or an older one: its keys, its counters and all that is sealed to it exist "
        "once more there, and nothing in a quote shows it.",
        "Seal nothing to it that may exist only once; have your key server count, and release to the attested machine.",
    )


def userspace(facts: Facts, provider: str, needs_provider: bool, freshness: str) -> Layer:
    """User space as loaded. The gaps of the measurement are always printed (AT-33)."""
    runtime = facts.runtime
    if runtime is None:
        return _layer(
            "userspace",
            0,
            "Nothing shows which programs were loaded since the boot.",
            parties=(),
            residual=("Whoever could log in or exploit a service since the boot.",),
            caveats=(Caveat("userspace.not-measured", "There is no measurement list.", "Turn IMA on in the measured command line."),),
        )
    degree = Verifiability.LINK
    if runtime.violations or not runtime.entries:
        degree = Verifiability.NONE
    elif not runtime.unlisted:
        degree = Verifiability.REFERENCE
    gaps = tuple(Caveat("userspace.gap", gap, NO_REMEDY) for gap in runtime.gaps)
    bad = f", {runtime.violations} violations" if runtime.violations else ""
    return _layer(
        "userspace",
        int(degree),
        f"{runtime.entries} loaded files were measured, {len(runtime.unlisted)} of them on no list{bad}.",
        parties=(facts.vtpm.operator,) if facts.vtpm else (),
        residual=("Scripts, data and code that never was a file are not in the list.",)
        + ((f"{provider}, through the vTPM that keeps the list honest.",) if needs_provider else ()),
        needs_provider=needs_provider,
        freshness=freshness,
        evidence=("IMA list replayed to the quoted PCR 10",),
        caveats=gaps,
    )


def provisioning(facts: Facts, policy: Policy, provider: str, freshness: str, agents: tuple[str, ...] | None) -> Layer:
    """Agents, metadata, ACPI: what the host hands in after, or beside, the launch measurement (AT-24, AT-26, AT-46)."""
    tee = facts.tee
    rules = policy.technologies.get(tee.technology) if tee else None
    pinned = [name for name in CONFIGURATION_REGISTERS if tee and rules and name in rules.registers and name in tee.registers]
    holds = [name for name in pinned if tee and rules and tee.registers[name].hex() in rules.registers[name]]
    caveats = (
        _agents(agents),
        Caveat(
            "provisioning.acpi",
            "ACPI tables, device tree, fw_cfg and SMBIOS come from the host and are not in the launch measurement.",
            "Use a guest kernel and firmware that restrict what ACPI may do; otherwise you cannot change this.",
        ),
    )
    if holds:
        summary = "Your own launch configuration is bound into the report; what arrives later is not measured."
        evidence = tuple(f"{name} in the signed report" for name in holds)
    else:
        summary, evidence = "Nothing shows what agents, metadata or the host's tables did to the guest.", ()
    return _layer(
        "provisioning",
        int(Verifiability.REFERENCE if holds else Verifiability.NONE),
        summary,
        parties=() if holds else (provider,),
        residual=(f"{provider}, who serves metadata and tables to the guest.",),
        needs_provider=True,
        freshness=freshness,
        evidence=evidence,
        caveats=caveats,
    )


def _agents(found: tuple[str, ...] | None) -> Caveat:
    if found is None:
        return Caveat(
            "provisioning.agents",
            "User data, metadata and provider agents are not measured; whoever serves them can reconfigure the guest.",
            "Leave cloud-init and agents out of the image, and deliver configuration over the attested channel.",
        )
    if found:
        return Caveat(
            "provisioning.agents-in-image",
            f"Agents in the measured image: {', '.join(found)}. Whoever controls their channel can reconfigure the guest.",
            "Leave them out of the image, and deliver configuration over the attested channel.",
        )
    return Caveat(
        "provisioning.no-known-agent",
        "No known provisioning agent is among the files of the measured image; a program that nobody knows could still take orders.",
        "Keep the image small, and look at what listens in it.",
    )


def storage(provider: str, root_fs: Ground, freshness: str) -> Layer:
    """Who holds the disk keys cannot be seen from outside; rollback is always said (AT-14, AT-17)."""
    verity = root_fs.degree >= Verifiability.LINK
    rollback = Caveat(
        "storage.rollback",
        "The host could put back an older disk image that was once genuine.",
        "Retire old root hashes from your reference values, or keep an epoch in your key server.",
    )
    key = Caveat(
        "storage.key-holder",
        "The evidence does not say who holds the keys of data disks; a key that the provider holds protects nothing from the provider.",
        "Release disk keys from your own key server, on a statement of level 3 or more.",
    )
    return _layer(
        "storage",
        int(Verifiability.LINK if verity else Verifiability.NONE),
        "The root file system is read-only and its hash is measured; other disks are not covered."
        if verity
        else "Nothing shows that disks are protected from the host.",
        parties=(provider,),
        residual=(f"{provider}, who keeps the disks.",),
        freshness=freshness,
        caveats=(rollback, key),
    )


def identity(facts: Facts, freshness: str) -> Layer:
    """Which key is bound to the challenge: without one, the answer could come from another machine (AT-02)."""
    if facts.bound_key is None:
        return _layer(
            "identity",
            0,
            "No key is bound into this evidence: it does not say with whom you are connected.",
            parties=(),
            residual=("Whoever stands between you and the machine.",),
            caveats=(
                Caveat(
                    "identity.no-key",
                    "A relay could pass on this evidence of another machine.",
                    "Bind the key of the connection into the evidence, and connect to nothing else.",
                ),
            ),
        )
    fresh = facts.freshness.scope == "challenge"
    return _layer(
        "identity",
        int(Verifiability.LINK),
        "A key is bound into the evidence" + (", with your challenge." if fresh else ", though not with a challenge of yours."),
        parties=(),
        residual=() if fresh else ("Whoever recorded older evidence of the same key.",),
        needs_provider=facts.freshness.carried_by != "tee",
        freshness=freshness,
        evidence=(f"key digest {facts.bound_key.hex()[:32]}",),
    )


def devices(provider: str) -> Layer:
    """No evidence of attested devices is appraised."""
    return _layer(
        "devices",
        0,
        "No device is attested; whatever crosses the memory boundary is in the host's hands.",
        parties=(provider,),
        residual=(f"{provider}, for everything that disks and network cards see.",),
        caveats=(Caveat("devices.not-attested", "Device traffic passes through shared memory.", "Encrypt it inside the guest."),),
    )
