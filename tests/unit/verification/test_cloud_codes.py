"""Every code that the platforms' procedures raise is on the page that explains it, and every kind has a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evident.verification.kinds import KINDS

REPOSITORY = Path(__file__).resolve().parents[3]
SOURCE, PAGES = REPOSITORY / "src" / "evident", REPOSITORY / "docs" / "platforms"
CODE = re.compile(r'"((?:tpm|azure|gcp|aws|nitro|svsm|endorsement)\.[a-z0-9.-]+)"')
MODULES = {
    "tpm.md": ("verification/tpm.py", "verification/tpm_case.py"),
    "azure-snp.md": ("verification/azure.py", "verification/azure_tdx.py"),
    "gcp-snp.md": ("verification/gcp.py",),
    "aws-snp.md": ("verification/aws.py",),
    "nitro.md": ("verification/nitro.py",),
    "svsm.md": ("verification/svsm.py",),
}
PAGE_OF_KIND = {"azure-tdx": "azure-snp", "nitrotpm": "nitro", "nitro-enclave": "nitro"}


@pytest.mark.parametrize(("page", "module"), [(page, module) for page, modules in MODULES.items() for module in modules])
def test_every_code_is_explained(page, module):
    text = (PAGES / page).read_text()
    families = re.findall(r"`([a-z.-]+\.)\*`", text)
    linked = "".join((PAGES / name).read_text() for name in re.findall(r"\]\(([a-z-]+\.md)\)", text))
    codes = set(CODE.findall((SOURCE / module).read_text()))
    assert codes
    missing = [code for code in codes if f"`{code}`" not in text + linked and not code.startswith(tuple(families))]
    assert not missing


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_page(kind):
    assert (PAGES / f"{PAGE_OF_KIND.get(kind, kind)}.md").is_file()
