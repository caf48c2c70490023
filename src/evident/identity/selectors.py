"""SPIRE selectors of an attested machine, and those that an entry for machines of given reference values demands.

SPIRE gives an identity to whoever has all selectors of its entry (SP-06). So a machine gets one for everything that holds of it, and of
nothing but what verified (NA-29): an entry is as strict as its author makes it. SPIRE shows them with ``evident:`` before each.

    kind:snp-tpm  technology:snp  simulated:false    what the evidence is; true where its root is a simulator's TEST root
    measurement:HEX                                  the launch digest that the TEE signed
    mrtd:HEX  rtmr1:HEX  host_data:HEX  ...          every other register that the TEE signed, by its vendor's name
    pcr:sha256:11:HEX                                every PCR that a verified quote covers: the word of whoever runs that TPM
    vtpm_location:host  vtpm_anchor:none             where that TPM runs, and who vouches for its key
    chip_id:HEX  project_id:TEXT  ...                what tells this machine from others (`evident.appraisal.identities`)
    setting:policy.debug:false                       guest policy, platform and TD attributes
    tcb:reported:snp:23  tcb_status:UpToDate         security versions by TCB and component (NA-25)
    level:nominal:1  level:trustworthy:1  ...        one for each attestation level that the statement reaches
    revocation:good                                  as it was found
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evident.appraisal.statement import TrustStatement
from evident.errors import Indeterminate
from evident.reference_values import programs
from evident.reference_values.model import ReferenceSet, ReferenceValue
from evident.verification.facts import Tee, Vtpm
from evident.verification.verified import Verified

BANK = "sha256"
"""Of the PCRs that a guest's agent quotes."""


def found(verified: Verified[Any], statement: TrustStatement) -> tuple[str, ...]:
    """The selector values of a machine whose evidence is `verified`, and was accepted with `statement`; each once."""
    facts = verified.facts
    values = [
        f"kind:{facts.kind}",
        *([f"technology:{facts.technology}"] if facts.technology else []),
        f"simulated:{str(verified.simulated).lower()}",
        f"revocation:{verified.revocation}",
        *(_of_tee(facts.tee) if facts.tee else ()),
        *(_of_vtpm(facts.vtpm) if facts.vtpm else ()),
        *(f"{name}:{value}" for name, value in statement.identities.items()),
        *(f"level:nominal:{level}" for level in range(1, statement.levels.nominal + 1)),
        *(f"level:trustworthy:{level}" for level in range(1, statement.levels.trustworthy + 1)),
    ]
    return tuple(dict.fromkeys(values))


def _of_tee(tee: Tee) -> Iterator[str]:
    for name, value in tee.registers.items():
        if name == "launch":
            yield f"measurement:{value.hex()}"
        elif name != "report_data":  # another one for every challenge
            yield f"{name}:{value.hex()}"
    for name, on in tee.settings.items():
        yield f"setting:{name}:{str(on).lower()}"
    for which, numbers in tee.tcb.items():
        for component, number in numbers.items():
            yield f"tcb:{which}:{component}:{number}"
    if tee.tcb_status is not None:
        yield f"tcb_status:{tee.tcb_status}"


def _of_vtpm(vtpm: Vtpm) -> Iterator[str]:
    yield f"vtpm_location:{vtpm.location}"
    yield f"vtpm_anchor:{vtpm.anchor}"
    for bank, values in vtpm.pcrs.items():
        for index, value in values.items():
            yield f"pcr:{bank}:{index}:{value.hex()}"


def expected(references: ReferenceSet) -> tuple[str, ...]:
    """What an entry for a machine of these reference values demands, so that no other machine has all of it.

    One value of every register that they name, of PCRs that of bank `BANK` where they have it. What programs may run (``ima``) is no state
    of the boot, so it is left out. Raises `Indeterminate`: ``spire.no-measurement`` where nothing is left, and ``spire.alternatives`` where
    a register may have several values, or a stage of the boot is named: an entry cannot say "or", and to leave one out would let others in.
    """
    wanted: dict[str, set[str]] = {}
    alike = {value.register for value in references.values if value.algorithm == BANK}
    for value in references.values:
        pcr = value.register.startswith("pcr")
        if value.register != programs.REGISTER and (not pcr or value.algorithm == BANK or value.register not in alike):
            wanted.setdefault(value.register, set()).add(_selector(value))
    if not wanted:
        raise Indeterminate.of(
            "spire.no-measurement",
            expected="reference values of what was launched or booted",
            found="none",
            remedy="Give reference values with a launch digest or PCRs: an entry without would take any machine.",
            layer="identity",
        )
    several = [register for register, values in wanted.items() if len(values) > 1 or register.startswith("stage.")]
    if several:
        raise Indeterminate.of(
            "spire.alternatives",
            expected="one value of each register, for SPIRE gives an identity only to who has every selector of an entry",
            found=f"several values, or a stage: {', '.join(several)}",
            remedy="Give reference values of one machine, and of one way to boot it.",
            layer="identity",
        )
    return tuple(sorted(value for values in wanted.values() for value in values))


def _selector(value: ReferenceValue) -> str:
    if value.register == "launch":
        return f"measurement:{value.value.hex()}"
    if value.register.startswith("pcr"):
        return f"pcr:{value.algorithm}:{value.register.removeprefix('pcr')}:{value.value.hex()}"
    return f"{value.register}:{value.value.hex()}"
