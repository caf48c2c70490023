"""A real OpenBao or Vault, where one is on PATH: a server process of its own with TLS, KV version 2, and the policy of docs/keys.md."""

from __future__ import annotations

import ipaddress
import json
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PROGRAMS = ("bao", "vault")
CONFIGURATION = """
storage "inmem" {{}}
disable_mlock = true
api_addr = "https://127.0.0.1:{port}"
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_cert_file = "{folder}/certificate.pem"
  tls_key_file = "{folder}/key.pem"
}}
"""


class RealVault:
    """One server, initialised and unsealed, with what its operator holds."""

    def __init__(self, program: str, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        certify(folder)
        (folder / "server.hcl").write_text(CONFIGURATION.format(port=self.port, folder=folder))
        self._log = (folder / "server.log").open("w")
        words = (program, "server", f"-config={folder / 'server.hcl'}")
        self._process = subprocess.Popen(words, stdout=self._log, stderr=subprocess.STDOUT)
        trust = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(folder / "certificate.pem")))
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), trust)
        self._root = ""
        self._started()
        made = self.ask("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        self._root, self._share = made["root_token"], made["keys"][0]
        self.unseal()
        self.ask("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
        self.ask("PUT", "sys/policies/acl/evident", {"policy": documented_policy()})

    def _started(self) -> None:
        for _ in range(200):
            try:
                self.version = self.ask("GET", "sys/seal-status")["version"]
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError((self.folder / "server.log").read_text())

    def unseal(self) -> None:
        self.ask("PUT", "sys/unseal", {"key": self._share})
        for _ in range(100):
            if not self.ask("GET", "sys/seal-status")["sealed"] and self._active():
                return
            time.sleep(0.05)

    def _active(self) -> bool:
        try:
            self.ask("GET", "sys/health")
        except urllib.error.HTTPError as error:
            error.close()
            return False
        return True

    def ask(self, method: str, path: str, body: Any = None, *, token: str = "") -> Any:
        """As the operator, or whoever holds `token`."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"X-Vault-Token": token or self._root, "Content-Type": "application/json"}
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}/v1/{path}", data=data, headers=headers, method=method)
        with self._opener.open(request, timeout=10) as response:
            answer = response.read()
        return json.loads(answer) if answer else None

    def token(self, **more: Any) -> str:
        """Of the documented policy, and no other."""
        wanted = {"policies": ["evident"], "no_default_policy": True, "ttl": "1h", **more}
        made: str = self.ask("POST", "auth/token/create", wanted)["auth"]["client_token"]
        return made

    def document(self, folder: Path, token: str = "", **more: str) -> Path:
        """What EVIDENT_VAULT names, with a token of its own beside it."""
        folder.mkdir(exist_ok=True)
        write_token(folder / "token", token or self.token())
        members = {"url": f"https://127.0.0.1:{self.port}", "token_file": "token", "ca_file": str(self.folder / "certificate.pem"), **more}
        path = folder / "vault.json"
        path.write_text(json.dumps({"version": 1, **members}))
        return path

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._log.close()


def start(folder: Path) -> RealVault:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("needs OpenBao or Vault as a real server: neither `bao` nor `vault` is on PATH")
    return RealVault(program, folder)


def write_token(path: Path, token: str) -> None:
    path.touch(mode=0o600)
    path.write_text(f"{token}\n")


def documented_policy() -> str:
    """The policy that the documentation tells operators to write."""
    page = (Path(__file__).parents[3] / "docs" / "keys.md").read_text()
    return page.partition("```hcl\n")[2].partition("```")[0]


def certify(folder: Path) -> None:
    """A certificate for 127.0.0.1 that signs itself."""
    key, name, now = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "TEST")]),
        datetime.now(UTC),
    )
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - timedelta(1), now + timedelta(1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*plain))
