"""A TPM on the host beside a report: both answer one challenge and one key, and what the TPM says stays the host's word."""

from __future__ import annotations

import hashlib
from datetime import date

import pytest

from evident.appraisal.appraise import appraise
from evident.appraisal.policy import Policy, RequiredLevels
from evident.errors import NotAuthentic, UsageError
from evident.evidence import binding
from evident.platforms import registry
from evident.reference_values.pcr import Measurement, Prediction, references
from evident.simulator import clouds
from evident.simulator.vtpm import UNRESTRICTED_ATTRIBUTES, SimulatedTpm
from evident.verification import snp_tpm

NONCE, KEY = bytes(range(100, 132)), b"SubjectPublicKeyInfo of a guest"
BOUND = binding.report_data(NONCE, KEY)
KERNEL = hashlib.sha256(b"kernel").digest()
PREDICTED = references(Prediction((Measurement(11, {"sha256": KERNEL}, "kernel", "kernel"),)))


def pieces(cloud, machine: SimulatedTpm, *, reported: bytes = BOUND, quoted: bytes = BOUND):
    report = {"report": (cloud.guest.report(reported),), "auxblob": cloud.table}
    quotes = clouds.quoted(machine, hashlib.sha256(quoted).digest(), "quote")
    return {**snp_tpm.together(report, quotes), "key": (KEY,)}


def test_report_and_quote_answer_one_challenge_and_one_key(cloud):
    verified = snp_tpm.verify(pieces(cloud, SimulatedTpm()), cloud.context(NONCE))
    facts = verified.facts
    assert facts.vtpm is not None
    assert (facts.vtpm.location, facts.vtpm.anchor, facts.vtpm.operator) == ("host", "none", snp_tpm.OPERATOR)
    assert (facts.freshness.scope, facts.freshness.carried_by) == ("challenge", "tee")
    assert facts.bound_key == binding.key_digest(KEY)
    assert set(facts.claims) == {"snp", "tpm"}
    assert verified.open_points == ()


@pytest.mark.parametrize(
    ("changed", "code", "step"),
    [
        ({"reported": binding.report_data(bytes(32), KEY)}, "snp.challenge.key", "snp.challenge"),
        ({"quoted": binding.report_data(bytes(32), KEY)}, "tpm.challenge", "tpm.challenge"),
        ({"quoted": binding.report_data(NONCE, b"another key")}, "tpm.challenge", "tpm.challenge"),
        ({"quoted": NONCE}, "tpm.challenge", "tpm.challenge"),
    ],
)
def test_whatever_answers_something_else_is_refused(cloud, changed, code, step):
    given = pieces(cloud, SimulatedTpm(), **changed)
    with pytest.raises(NotAuthentic) as refused:
        snp_tpm.verify(given, cloud.context(NONCE))
    assert refused.value.code == code
    passed = snp_tpm.verify(given, cloud.context(NONCE), without=frozenset({step}))
    assert step in passed.required - {record.id for record in passed.steps}


def test_both_parts_are_heard(cloud):
    other = binding.report_data(bytes(32), KEY)
    with pytest.raises(NotAuthentic) as refused:
        snp_tpm.verify(pieces(cloud, SimulatedTpm(), reported=other, quoted=other), cloud.context(NONCE))
    assert [finding.code for finding in refused.value.findings] == ["snp.challenge.key", "tpm.challenge"]


def test_a_key_that_signs_what_it_is_given_is_refused(cloud):
    with pytest.raises(NotAuthentic, match=r"tpm\.ak-attributes"):
        snp_tpm.verify(pieces(cloud, SimulatedTpm(ak_attributes=UNRESTRICTED_ATTRIBUTES)), cloud.context(NONCE))


def test_without_a_report_it_is_another_kind(cloud):
    given = {role: contents for role, contents in pieces(cloud, SimulatedTpm()).items() if role != "report"}
    with pytest.raises(UsageError, match=r"pieces\.count"):
        snp_tpm.verify(given, cloud.context(NONCE))


def test_what_the_tpm_says_is_the_hosts_word(cloud):
    """AT-18: a host that lies extends what was expected. So nothing above the firmware stands without its word, to be accepted by name."""
    lying = SimulatedTpm()
    lying.extend(11, {"sha256": KERNEL})
    verified = snp_tpm.verify(pieces(cloud, lying), cloud.context(NONCE))
    launch = cloud.scenario.reference.values[0]
    firmware = type(launch)(
        ("firmware",), "launch", launch.value, launch.strength, "you", "firmware alone", launch.provenance, algorithm="sha384"
    )
    policy = Policy(1, levels=RequiredLevels(nominal=3, trustworthy=2), allow_simulated=True)
    statement = appraise(verified, policy=policy, references=(firmware, *PREDICTED))
    assert (statement.levels.nominal, statement.levels.trustworthy) == (3, 2)
    assert [finding.code for finding in statement.findings] == ["policy.party"]
    assert snp_tpm.OPERATOR in statement.findings[0].found
    accepting = Policy(1, levels=policy.levels, allow_simulated=True, accepted_trust=(snp_tpm.OPERATOR,))
    assert appraise(verified, policy=accepting, references=(firmware, *PREDICTED)).decision == "accepted"


def test_in_a_cloud_whoever_runs_the_host_has_a_name(cloud):
    machine = SimulatedTpm()
    machine.extend(11, {"sha256": KERNEL})
    verified = snp_tpm.verify(pieces(cloud, machine), cloud.context(NONCE))
    policy = Policy(1, levels=RequiredLevels(nominal=1, trustworthy=1), allow_simulated=True)
    for profile, named in (("gcp-snp", "Google"), ("aws-snp", "AWS"), ("qemu-snp", snp_tpm.OPERATOR)):
        statement = appraise(verified, policy=policy, references=PREDICTED, profile=registry.profile(profile, date(2026, 11, 22)))
        chain = next(layer for layer in statement.layers if layer.name == "boot_chain")
        assert named in " ".join((*chain.endorsers, *chain.trusted_parties))
        assert (snp_tpm.OPERATOR in chain.trusted_parties) is (named == snp_tpm.OPERATOR)
