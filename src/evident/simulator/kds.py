"""A loopback stand-in for AMD's key distribution service: the same paths, TEST certificates, and bad days on request.

Source: AMD publication 57230, section "KDS interface". Certificate bodies are DER, chains PEM, CRLs DER.

    kds = SimulatedKds(pki, clock=lambda: now)
    with KdsServer(kds) as server:               # HTTP on 127.0.0.1, server.base_url replaces https://kdsintf.amd.com
        kds.mode = Mode(rate_limited=2)          # the next two requests are answered with 429
    KdsFetcher(kds).fetch(url, limit=...)        # the same without a socket; the host in `url` does not matter
"""

from __future__ import annotations

import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal, Self

from evident.endorsements.fetcher import Fetched
from evident.errors import CollateralUnavailable
from evident.evidence.snp_report import PRODUCTS, Product, Tcb
from evident.simulator.pki import Role, SimulatorPki

_SPL_NAMES = {"fmcSPL": "fmc", "blSPL": "bootloader", "teeSPL": "tee", "snpSPL": "snp", "ucodeSPL": "microcode"}


@dataclass(frozen=True, slots=True)
class Mode:
    """How the service behaves; the default is a good day."""

    latency_seconds: float = 0.0
    outage: bool = False
    """Every request is answered with 503."""
    rate_limited: int = 0
    """So many further requests are answered with 429."""
    retry_after_seconds: int = 1
    corrupt: bool = False
    """Bodies have one byte changed, in the middle."""
    crl_age: timedelta = timedelta(0)
    """CRLs are as old as this: more than 29 days makes them stale."""
    crl_number: int = 1
    crl_signer: Role = "ark"
    revoked: tuple[Role, ...] = ()


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class SimulatedKds:
    """Answers requests by path. `mode` may be replaced at any time; `requests` lists the paths that were asked for."""

    def __init__(self, pki: SimulatorPki, *, clock: Callable[[], datetime], mode: Mode | None = None) -> None:
        self.mode = mode or Mode()
        self.requests: list[str] = []
        self._pki = pki
        self._clock = clock
        self._minted: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def respond(self, target: str) -> Response:
        """The answer to ``GET target`` (path and query)."""
        with self._lock:
            self.requests.append(target)
            mode = self.mode
            if mode.rate_limited:
                self.mode = replace(mode, rate_limited=mode.rate_limited - 1)
        if mode.latency_seconds:
            time.sleep(mode.latency_seconds)
        if mode.outage:
            return Response(503, b"simulated outage")
        if mode.rate_limited:
            return Response(429, b"simulated rate limit", {"Retry-After": str(mode.retry_after_seconds)})
        with self._lock:
            body = self._body(target, mode)
        if body is None:
            return Response(404, b"not found")
        if mode.corrupt:
            middle = len(body) // 2
            body = body[:middle] + bytes((body[middle] ^ 0x01,)) + body[middle + 1 :]
        return Response(200, body)

    def _body(self, target: str, mode: Mode) -> bytes | None:
        path, _, query = target.partition("?")
        match path.strip("/").split("/"):
            case ["vcek" | "vlek" as kind, "v1", name, what]:
                product = next((product for product in PRODUCTS if product.name == name), None)
                return None if product is None else self._object(product, "vcek" if kind == "vcek" else "vlek", what, query, mode)
        return None

    def _object(self, product: Product, kind: Literal["vcek", "vlek"], what: str, query: str, mode: Mode) -> bytes | None:
        if what == "cert_chain":
            return self._pki.chain_pem(product, kind)
        if what == "crl":
            at = self._clock() - mode.crl_age
            return self._pki.crl(product, at=at, number=mode.crl_number, revoked=mode.revoked, signer=mode.crl_signer)
        if kind == "vlek":
            return None  # VLEKs are given to clouds alone
        return self._vcek(product, what, query)

    def _vcek(self, product: Product, hwid: str, query: str) -> bytes | None:
        numbers = {_SPL_NAMES.get(name, ""): value for name, value in urllib.parse.parse_qsl(query)}
        expected = {"bootloader", "tee", "snp", "microcode"} | ({"fmc"} if product.turin_layout else set())
        in_form = set(hwid) <= set("0123456789abcdef") and len(hwid) == (16 if product.turin_layout else 128)
        if numbers.keys() != expected or not all(value.isdecimal() and int(value) < 256 for value in numbers.values()) or not in_form:
            return None
        key = f"{product.name}/{hwid}?{sorted(numbers.items())}"
        if key not in self._minted:
            tcb = Tcb(**{name: int(value) for name, value in numbers.items()})
            self._minted[key] = self._pki.vcek(product, bytes.fromhex(hwid), tcb)
        return self._minted[key]


class KdsFetcher:
    """A `Fetcher` over a `SimulatedKds`, without a socket."""

    def __init__(self, kds: SimulatedKds, *, clock: Callable[[], datetime]) -> None:
        self._kds = kds
        self._clock = clock

    def fetch(self, url: str, *, limit: int) -> Fetched:
        parts = urllib.parse.urlsplit(url)
        response = self._kds.respond(parts.path + (f"?{parts.query}" if parts.query else ""))
        if response.status != 200 or len(response.body) > limit:
            raise CollateralUnavailable.of(
                "simulator.kds",
                expected=f"at most {limit} bytes from the simulated key distribution service at {parts.path}",
                found=f"status {response.status}, {len(response.body)} bytes",
                remedy="Choose another mode of the simulated service, or pass the endorsement yourself.",
            )
        return Fetched(url, response.body, self._clock())


class KdsServer:
    """Serves a `SimulatedKds` over HTTP on a free loopback port, in a thread, while the context is open."""

    def __init__(self, kds: SimulatedKds) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the name is http.server's
                response = kds.respond(self.path)
                self.send_response(response.status)
                for name, value in response.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(response.body)))
                self.end_headers()
                self.wfile.write(response.body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is http.server's
                """Quiet: `SimulatedKds.requests` is the log."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="simulated-kds", daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
