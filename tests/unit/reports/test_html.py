"""The page: self-contained, inert, escaped, and saying what the terminal says."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser

from evident.appraisal.statement import TrustStatement
from evident.errors import Finding, NotAuthentic
from evident.reports import html

VOID = {"meta", "br", "rect", "circle", "path"}


class Page(HTMLParser):
    """Elements, attributes and text of a page; refuses elements that are not closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_loads_nothing_and_runs_nothing(statement: Callable[..., TrustStatement], refused: TrustStatement) -> None:
    for outcome in (statement(), statement(simulated=True), refused, NotAuthentic(refused.findings[0])):
        source = html.render(outcome, bundle_sha256="ab" * 32)
        page = Page(source)
        names = {name for name, _ in page.elements}
        assert not names & {"script", "link", "img", "iframe", "object", "embed", "form", "base", "audio", "video", "use", "image"}
        for _, attributes in page.elements:
            assert not any(name.startswith("on") or name in {"src", "srcset", "style", "action", "background"} for name in attributes)
            assert (attributes.get("href") or "#").startswith("#")
        assert "url(" not in source
        assert "@import" not in source


def test_the_policy_admits_this_style_sheet_and_nothing_else(statement: Callable[..., TrustStatement]) -> None:
    source = html.render(statement())
    style = re.search(r"<style>(.*?)</style>", source, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = next(meta["content"] for meta in Page(source).of("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_every_text_of_evidence_is_escaped(statement: Callable[..., TrustStatement]) -> None:
    hostile = "<script>alert(1)</script>`<b>`\"'\u202e"
    finding = Finding(hostile, hostile, hostile, hostile, hostile)
    layers = tuple(
        dataclasses.replace(layer, summary=hostile, endorsers=(hostile,), residual_trust=(hostile,), evidence=(hostile,), freshness=hostile)
        for layer in statement().layers
    )
    source = html.render(
        statement(
            decision="refused",
            code=hostile,
            findings=(finding,),
            layers=layers,
            headline=dict.fromkeys(("use", "proven", "trust", "todo"), hostile),
            claims={hostile: hostile},
            steps=(hostile,),
            unsafe=(hostile,),
            policy_name=hostile,
            profile=hostile,
        ),
        pieces=html.artifacts({hostile: (b"x",)}),
    )
    assert "<script" not in source
    assert "\u202e" not in source
    assert "<b>" not in source
    assert not Page(source).of("script")


def test_it_says_what_matters(statement: Callable[..., TrustStatement], refused: TrustStatement) -> None:
    text = Page(html.render(statement())).text
    for said in (
        "ACCEPTED",
        "May I use it?",
        "What is proven?",
        "Whom do I still trust?",
        "What should I do?",
        "3 of 4, recomputed from the binary",
    ):
        assert said in text
    text = Page(html.render(refused)).text
    for said in ("REFUSED", refused.findings[0].code, "finding 1", "not what was expected", "DIFFERENT"):
        assert said in text


def test_simulated_is_in_title_banner_and_verdict(statement: Callable[..., TrustStatement]) -> None:
    source = html.render(statement(simulated=True))
    assert "<title>SIMULATED: ACCEPTED" in source
    page = Page(source)
    assert "ACCEPTED , but only simulated" in page.text or "ACCEPTED, but only simulated" in page.text
    assert next(attributes for attributes in page.of("div") if attributes.get("class") == "simulated")["role"] == "alert"
    assert "simulated" not in Page(html.render(statement())).text.lower()


def test_raw_pieces_and_the_bundle_are_named_by_digest(statement: Callable[..., TrustStatement]) -> None:
    text = Page(html.render(statement(), pieces=html.artifacts({"report": (b"x" * 1184,)}), bundle_sha256="ab" * 32)).text
    assert f"report 1184 {hashlib.sha256(b'x' * 1184).hexdigest()}" in text
    assert "ab" * 32 in text


def test_findings_are_linked_from_the_picture(refused: TrustStatement) -> None:
    page = Page(html.render(refused))
    targets = {attributes.get("id") for _, attributes in page.elements}
    links = [attributes["href"] for attributes in page.of("a")]
    assert links
    assert all((link or "")[1:] in targets for link in links)


def test_commands_are_set_as_code_and_odd_backticks_left_alone(statement: Callable[..., TrustStatement]) -> None:
    source = html.render(statement(headline={"use": "Run `evident trust fetch` now.", "todo": "A lone ` stays."}))
    assert "Run <code>evident trust fetch</code> now." in source
    assert "A lone ` stays." in source
