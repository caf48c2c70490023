"""One attestor for every kind of evidence: what it is, is found by what verifies, and each kind has its own selectors (NA-04, NA-02)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.attacks.test_node_attestor import Desk, attested, machine

from evident.endorsements import intel
from evident.endorsements.fetcher import Fetched, StaticFetcher
from evident.errors import EvidentError
from evident.evidence.cmw import Pieces
from evident.guest.source import Evidence, Question
from evident.identity.node_attestor import NodeAttestor
from evident.simulator import clouds, scenario
from evident.simulator.cloud_pki import CloudPki
from evident.simulator.pki import SimulatorPki
from evident.simulator.tdx import Platform, TdxPki, TrustDomain
from evident.simulator.vtpm import SimulatedTpm


class Told:
    """A source that answers with what a function makes of the question, under the name `kind`."""

    name = "told"

    def __init__(self, kind: str, collect: Callable[[Question], Pieces]) -> None:
        self._kind = kind
        self._collect = collect

    def collect(self, question: Question) -> Evidence:
        return Evidence(self._kind, self._collect(question), self.name)


@pytest.fixture
def desk(simulator_pki: SimulatorPki) -> Desk:
    return Desk(scenario.good(simulator_pki))


@pytest.fixture
def cloud(desk: Desk) -> CloudPki:
    return CloudPki(desk.machine.at - timedelta(days=1))


def trusting(desk: Desk, cloud: CloudPki) -> NodeAttestor:
    attestor = desk.attestor()
    attestor._surety = replace(attestor._surety, anchors=attestor._surety.anchors.plus(*cloud.anchors()))
    return attestor


def launched(desk: Desk) -> str:
    return f"measurement:{desk.machine.start().guest.measurement.hex()}"


@pytest.mark.parametrize("said", ["gcp-snp", "snp"])
def test_google(desk: Desk, cloud: CloudPki, said: str) -> None:
    """Whatever the agent calls it."""
    running, chip, at = desk.machine.start(), SimulatedTpm(), desk.machine.at

    def pieces(question: Question) -> Pieces:
        return {**clouds.gcp_snp(running.guest, chip, question.report_data, cloud, at), "auxblob": (running._table,)}

    _, found = attested(trusting(desk, cloud), machine(Told(said, pieces)))
    assert {"kind:gcp-snp", "vtpm_location:hypervisor", launched(desk)} <= found
    assert f"pcr:sha256:4:{chip.pcrs['sha256'][4].hex()}" in found


def test_aws(desk: Desk, cloud: CloudPki) -> None:
    running, chip, at = desk.machine.start(), SimulatedTpm(), desk.machine.at

    def pieces(question: Question) -> Pieces:
        made = clouds.aws_snp(running.guest, chip, question.nonce, cloud, at, key=question.spki)
        return {**made, "auxblob": (running._table,)}

    _, found = attested(trusting(desk, cloud), machine(Told("aws-snp", pieces)))
    assert {"kind:aws-snp", launched(desk)} <= found
    assert f"pcr:sha384:4:{chip.pcrs['sha384'][4].hex()}" in found


def test_a_nitrotpm_document_that_names_no_key_is_nobodys(desk: Desk, cloud: CloudPki) -> None:
    running, chip, at = desk.machine.start(), SimulatedTpm(), desk.machine.at

    def pieces(question: Question) -> Pieces:
        return {**clouds.aws_snp(running.guest, chip, question.nonce, cloud, at), "auxblob": (running._table,)}

    with pytest.raises(EvidentError, match=r"nitro\.key"):
        attested(trusting(desk, cloud), machine(Told("aws-snp", pieces)))


def test_an_svsm_whose_tpm_shows_the_quoting_key(desk: Desk) -> None:
    running, chip = desk.machine.start(), SimulatedTpm()

    def pieces(question: Question) -> Pieces:
        made = clouds.svsm_vtpm(running.guest, chip, question.report_data)
        return {**made, "auxblob": (running._table,), "ek": (chip.ek.tpm2b,)}

    source = Told("svsm", pieces)
    attestor = desk.attestor()
    (value,) = desk.machine.reference.values
    known = replace(value, provenance=replace(value.provenance, artifacts={"svsm": bytes(32)}))
    attestor._surety = replace(attestor._surety, references=(known,))
    _, found = attested(attestor, machine(source, activate=chip.activate))
    assert {"kind:svsm", "vtpm_location:svsm", "vtpm_anchor:tee", f"ek_name:{chip.ek.name.hex()}", launched(desk)} <= found
    with pytest.raises(EvidentError, match=r"svsm\.activation\.missing"):
        attested(attestor, machine(source, activate=SimulatedTpm().activate))


def test_a_td(desk: Desk) -> None:
    at, platform, domain = desk.machine.at, Platform(), TrustDomain()
    pki = TdxPki(b"a TD under SPIRE", at)
    served = pki.collateral(platform, at)
    urls = {
        intel.tcb_info_url(platform.fmspc): served["tcb-info"],
        intel.qe_identity_url(): served["qe-identity"],
        intel.pck_crl_url("platform"): served["pck-crl"],
        intel.ROOT_CRL_URL: served["root-crl"],
    }

    def pieces(question: Question) -> Pieces:
        return {"quote": (pki.quote(platform, domain, question.report_data),), "tcb-chain": (pki.tcb_chain(),)}

    attestor = desk.attestor()
    surety = attestor._surety
    fetcher = StaticFetcher({url: Fetched(url, body, at) for url, body in urls.items()})
    attestor._surety = replace(surety, anchors=surety.anchors.plus(*pki.anchors()), fetcher=fetcher)
    _, found = attested(attestor, machine(Told("tdx", pieces)))
    assert {"kind:tdx", "technology:tdx", "tcb_status:UpToDate", f"mrtd:{domain.mrtd.hex()}", f"measurement:{domain.mrtd.hex()}"} <= found
    assert f"fmspc:{platform.fmspc.hex()}" in found
