"""Anchors: shipped ones are the published ones, and none loads without provenance or under another fingerprint (EV-11)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from evident.endorsements import anchors, x509
from evident.endorsements.anchors import Anchor, AnchorSet, _anchor, _Row, production
from evident.errors import NotAuthentic, UsageError
from evident.evidence.snp_report import PRODUCTS, SigningKey


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
def test_amds_are_the_published_ones(vectors: Any, product: Any) -> None:
    """Fetched from a crate and a Go module; the vectors come from a third project."""
    shipped = {anchor.name: anchor.fingerprint for anchor in production() if f"snp:{product.name}" in anchor.purpose}
    case = f"amd-chain/trustee-{product.name.lower()}"
    assert shipped == vectors.facts(case)["sha256_der"]
    assert {c.fingerprint for c in x509.load_all(vectors.read(case, "ask_ark_asvk.pem"))} == set(shipped.values())


def test_intels_is_the_published_one(vectors: Any) -> None:
    (anchor,) = production().for_purpose("tdx")
    assert anchor.fingerprint == x509.load(vectors.read("tdx/go-tdx-guest-spr-v4", "trusted_root.pem")).fingerprint
    chain = x509.load_all(vectors.read("tdx/attestation-rs-collateral-2026-03", "tcb_signing_chain.pem"))
    assert anchor.fingerprint == chain[-1].fingerprint


def test_every_anchor_has_provenance_and_every_root_signs_itself() -> None:
    at = datetime(2026, 11, 22, tzinfo=UTC)
    for anchor in production():
        assert len(anchor.origin) > 20
        assert len(anchor.cross_checked) > 20
        assert anchor.retrieved is not None
        assert not anchor.simulated
        if anchor.role == "root":
            assert anchor.certificate.is_ca
            x509.verify_chain((anchor.certificate, anchor.certificate), at)
            assert anchors.PINNED_ROOTS[anchor.name] == anchor.fingerprint


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
@pytest.mark.parametrize("kind", [SigningKey.VCEK, SigningKey.VLEK])
def test_shipped_intermediates_chain_to_shipped_roots(product: Any, kind: SigningKey) -> None:
    trusted = production()
    (intermediate,) = anchors.amd_intermediates(trusted, product, kind)
    (root,) = anchors.amd_roots(trusted, product)
    x509.verify_issued_by(intermediate.certificate, root.certificate)


def test_an_intermediate_never_answers_for_a_root() -> None:
    for product in PRODUCTS:
        assert [anchor.role for anchor in anchors.amd_roots(production(), product)] == ["root"]


@pytest.mark.parametrize("missing", ["origin", "cross_checked"])
def test_an_anchor_without_provenance_cannot_be_built(missing: str) -> None:
    good = next(iter(production()))
    for empty in ("", "  "):
        with pytest.raises(UsageError, match=r"anchor\.provenance"):
            replace(good, **{missing: empty})


def row_of(anchor: Anchor, **changes: Any) -> _Row:
    row = _Row(
        anchor.name,
        anchor.vendor,
        anchor.purpose,
        anchor.role,
        "file",
        anchor.fingerprint,
        anchor.origin,
        date(2026, 11, 22),
        anchor.cross_checked,
    )
    return replace(row, **changes)


def test_an_exchanged_data_file_is_noticed_even_with_its_row(root: Any) -> None:
    """Whoever changes certificate and row alike still meets the fingerprint in the code."""
    ark = next(iter(production()))
    impostor = x509.parse(root.der)
    _anchor(row_of(ark), ark.der)
    for changes in ({}, {"sha256": impostor.fingerprint}, {"sha256": impostor.fingerprint, "name": "TEST Root"}):
        with pytest.raises(NotAuthentic, match=r"anchor\.fingerprint"):
            _anchor(row_of(ark, **changes), impostor.der)
    with pytest.raises(NotAuthentic):
        _anchor(row_of(ark, sha256="0" * 64), ark.der)


def test_sets_are_immutable_and_extensible(root: Any) -> None:
    trusted = production()
    before = len(list(trusted))
    added = Anchor("TEST", "test", "snp:Milan", root.der, "made here", "not at all: a test", simulated=True)
    extended = trusted.plus(added)
    assert len(list(trusted)) == before
    assert added in extended.for_purpose("snp:Milan")
    assert added not in AnchorSet(trusted).for_purpose("snp:Milan")
