"""What the owner writes of their Vault, and the files that it names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.unit.keys.real_vault import certify, documented_policy, write_token
from tests.unit.keys.test_vault import TOKEN, VOLUME, Fake, faking

from evident.errors import Malformed, UsageError
from evident.files import write_private_bytes
from evident.keys import vault_document
from evident.keys.store import Held
from evident.keys.vault import VaultPlace


def written(folder: Path, **members: object) -> Path:
    path = folder / "vault.json"
    path.write_text(json.dumps({"version": 1, "url": "https://vault.example:8200", "token_file": "token", **members}))
    return path


def test_what_it_says_and_what_it_need_not(tmp_path: Path) -> None:
    assert vault_document.read(written(tmp_path)).place == VaultPlace("https://vault.example:8200", "secret", "evident/disks", "")
    path = written(tmp_path, mount="kv/two", prefix="shop", namespace="team")
    assert vault_document.read(path).place == VaultPlace("https://vault.example:8200", "kv/two", "shop", "team")


LOGIN = {"workload_socket": "agent.sock", "role": "evident"}


@pytest.mark.parametrize(
    "members",
    [
        {"token": "hvs.x"},
        {"url": 7},
        {"version": 2},
        {"token_file": ""},
        {"login": LOGIN},
        {"token_file": "", "login": LOGIN, "url": "http://127.0.0.1:8200"},
    ],
    ids=["token inside", "url", "version", "nothing", "both", "login in the clear"],
)
def test_what_it_may_not_say(tmp_path: Path, members: dict[str, object]) -> None:
    with pytest.raises(Malformed, match=r"keys\.vault-document"):
        vault_document.read(written(tmp_path, **members))


def test_the_documented_policy_is_for_the_documented_place(tmp_path: Path) -> None:
    place = vault_document.read(written(tmp_path)).place
    assert re.findall(r'^path "(.+)" {\n  capabilities = (.+)$', documented_policy(), re.M) == [
        (f"{place.mount}/data/{place.prefix}/+", '["create", "read", "update"]'),
        (f"{place.mount}/metadata/{place.prefix}/+", '["delete"]'),
    ]


def test_the_token_is_read_for_each_request(tmp_path: Path) -> None:
    with faking() as server:
        store = vault_document.open_vault(local(tmp_path, server))
        with pytest.raises(UsageError, match=r"state\.read"):
            store.get(VOLUME)
        write_token(tmp_path / "token", TOKEN)
        store.put(VOLUME, Held(b"k"))
        write_token(tmp_path / "token", "another")
        store.get(VOLUME)
        assert server.problems == ["X-Vault-Token: another"]
        server.problems.clear()


def local(folder: Path, server: Fake) -> Path:
    return written(folder, url=f"http://127.0.0.1:{server.server_address[1]}", mount="kv", namespace="team")


@pytest.mark.parametrize("checked", [False, True], ids=["check off", "check on"])
def test_a_token_that_others_may_read_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    write_token(tmp_path / "token", TOKEN)
    (tmp_path / "token").chmod(0o640)
    if not checked:
        monkeypatch.setattr(vault_document, "check_private", lambda *_: None)
        assert vault_document.token(tmp_path / "token") == TOKEN
        return
    with pytest.raises(UsageError, match=r"keys\.vault\.token\.mode"):
        vault_document.token(tmp_path / "token")


@pytest.mark.parametrize("content", [b"", b"\n", b"one\ntwo", b"a b", b"caf\xc3\xa9"], ids=["empty", "blank", "lines", "words", "letters"])
def test_what_is_no_token(tmp_path: Path, content: bytes) -> None:
    write_private_bytes(tmp_path / "token", content)
    with pytest.raises(UsageError, match=r"keys\.vault\.token"):
        vault_document.token(tmp_path / "token")


def test_authorities_that_are_none(tmp_path: Path) -> None:
    certify(tmp_path)
    vault_document.open_vault(written(tmp_path, ca_file="certificate.pem"))
    for content in (b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        (tmp_path / "ca.pem").write_bytes(content)
        with pytest.raises(UsageError, match=r"keys\.vault\.ca"):
            vault_document.open_vault(written(tmp_path, ca_file="ca.pem"))
    with pytest.raises(UsageError, match=r"state\.read"):
        vault_document.open_vault(written(tmp_path, ca_file="absent.pem"))
