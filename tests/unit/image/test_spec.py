"""The specification refuses what would make an image ambiguous or open, and names the member at fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from evident import codec
from evident.errors import Malformed
from evident.image.build import command_line
from evident.image.spec import ImageSpec

REPOSITORY = Path(__file__).resolve().parents[3]
PLAIN: dict[str, Any] = {"version": 1, "name": "shop", "units": [{"name": "shop", "command": ["/usr/bin/python3"]}]}


def decode(**changes: Any) -> ImageSpec:
    return codec.decode(ImageSpec, {**PLAIN, **changes}, "image")


def unit(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "command": ["/usr/bin/python3"], **more}


def test_units_have_users_of_their_own_unless_they_share_one() -> None:
    units = [unit("prepare", user="web"), unit("exporter"), unit("web"), unit("watch", user="root")]
    assert decode(units=units).users == {"web": 1000, "exporter": 1001, "root": 0}


def test_the_example_is_one_and_satisfies_the_schema() -> None:
    document = yaml.safe_load((REPOSITORY / "examples" / "shop.yaml").read_text())
    jsonschema.validate(document, json.loads((REPOSITORY / "docs" / "schemas" / "image.json").read_text()))
    assert codec.decode(ImageSpec, document, "image").profile == "encrypted"


def test_the_example_of_the_page_is_one_too() -> None:
    page = (REPOSITORY / "docs" / "image.md").read_text()
    text = page[page.index("    units:\n") : page.index("\nThey are started")]
    assert decode(**yaml.safe_load(text)).users == {"web": 1000, "exporter": 1001, "root": 0}


def test_equal_specifications_have_equal_digests_and_others_do_not() -> None:
    assert decode().digest() == decode().digest()
    assert decode().digest() != decode(ima=True).digest()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": "Shop"}, "image.name"),
        ({"packages": ["bash;rm"]}, "image.package"),
        ({"packages": ["--option"]}, "image.package"),
        ({"units": []}, "image.unit"),
        ({"units": [unit("root")]}, "image.unit"),
        ({"units": [unit("sshd")]}, "image.unit"),
        ({"units": [unit("a"), unit("a")]}, "image.unit"),
        ({"units": [unit("a", command=[])]}, "image.unit"),
        ({"units": [unit("a", command=["python3"])]}, "image.unit"),
        ({"units": [unit("a", on_end="next")]}, "image.unit"),
        ({"units": [unit("a", user="A")]}, "image.name"),
        ({"units": [unit("../a")]}, "image.name"),
        ({"units": [unit("a", tls_names=["a.example"]), unit("b", tls_names=["b.example"])]}, "image.tls-name"),
        ({"units": [unit("a", tls_names=["*.example"])]}, "image.tls-name"),
        ({"files": [{"path": "/srv/../etc/passwd"}]}, "image.path"),
        ({"files": [{"path": "srv/x"}]}, "image.path"),
        ({"files": [{"path": "/x", "text": "a", "base64": "YQ=="}]}, "image.file"),
        ({"files": [{"path": "/x", "base64": "!"}]}, "image.file"),
        ({"files": [{"path": "/x"}, {"path": "/x"}]}, "image.file"),
        ({"writable": [{"path": "/srv/x", "size": "all"}]}, "image.writable"),
        ({"writable": [{"path": "/srv/x", "user": "nobody"}]}, "image.writable"),
        ({"writable": [{"path": "/run", "user": "shop"}]}, "image.writable"),
        ({"command_line": ["init=/bin/sh"]}, "image.command-line"),
        ({"command_line": ["a b"]}, "image.command-line"),
        ({"command_line": ["evident.mode=integrity"]}, "image.command-line"),
        ({"command_line": ["evident.data=0"]}, "image.command-line"),
        ({"units": [unit("a", tls_names=["Shop.example"])]}, "image.tls-name"),
        ({"units": [unit("a", tls_names=["192.0.2.7"])]}, "image.tls-name"),
        ({"units": [unit("a", tls_names=[f"{'a' * 64}.example"])]}, "image.tls-name"),
        ({"units": [unit("a", tls_names=["a." * 127 + "example"])]}, "image.tls-name"),
        ({"units": [unit("a", tls_names=[f"shop{number}" for number in range(101)])]}, "image.tls-name"),
        ({"ssh_authorized_keys": ["-----BEGIN OPENSSH PRIVATE KEY-----"]}, "image.ssh-key"),
        ({"profile": "open"}, "image.type"),
        ({"pakages": []}, "image.unknown-key"),
    ],
)
def test_refuses(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode(**changes)
    assert caught.value.code == code


def test_the_command_line_holds_what_an_administrator_could_do_off() -> None:
    words = command_line(decode(profile="microcvm"), None, {"evident.verifier": "10.0.2.2:1"}).split()
    assert {"sysctl.kernel.sysrq=0", "module.sig_enforce=1", "ro", "evident.mode=microcvm"} <= set(words)
    assert words[-1] == "evident.verifier=10.0.2.2:1"
