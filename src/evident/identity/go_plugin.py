"""One SPIRE plug-in as a process of its own: HashiCorp's go-plugin protocol, served with grpcio; messages are bytes, nothing is generated.

    serve(Plugin("NodeAttestor", SERVICE, "Attest", converse), environment=os.environ)

(1) The host starts the process with a cookie in its environment, and reads one line of its standard output: ``1|1|unix|SOCKET|grpc``.
(2) On that socket it finds a health check, a broker (whose stream stays open until one of the two ends), what the plug-in prints, and how
    to end it.
(3) SPIRE's own services come on top: ``Init`` names what the plug-in serves, ``Config`` hands over the trust domain. Evident's plug-ins are
    told everything else by arguments, so ``plugin_data`` has to be empty.
(4) Standard error is the log; a line of JSON in hclog's form keeps its level.

Sources: hashicorp/go-plugin v1.6.3, ``docs/guide-plugin-write-non-go.md``, ``grpc_broker.go``, ``internal/plugin/*.proto`` and
``log_entry.go``; spiffe/spire v1.13.3, ``pkg/common/catalog/external.go``; spiffe/spire-plugin-sdk, ``private``, ``proto/spire/service``.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Event, Timer
from typing import Any, TextIO

import grpc

from evident.errors import EvidentError, UsageError
from evident.evidence import protobuf
from evident.identity.spiffe_id import check_trust_domain

CONFIG = "spire.service.common.config.v1.Config"
CONVERSATION_SECONDS = 120.0
"""How long one may last: an emulated machine takes its time for a report and a quote. Whoever stays silent holds no thread longer."""
THREADS = 256
"""Conversations at a time; the broker and the plug-in's output take one each. SPIRE lets one begin every second from one address, so that
nobody silent takes them all from there."""
_PROTOCOLS = "1|1"
"""Of go-plugin itself, and of SPIRE's plug-ins."""
_GRACE = 0.5
"""Seconds for what is under way when the host ends the plug-in, which it kills two seconds later."""
_STATUS = {"malformed": grpc.StatusCode.INVALID_ARGUMENT, "usage": grpc.StatusCode.INVALID_ARGUMENT}


@dataclass(frozen=True, slots=True)
class Plugin:
    """What SPIRE loads."""

    type: str
    """``NodeAttestor``: also the name and the value of the cookie."""
    service: str
    """Full name of the gRPC service that is the plug-in."""
    method: str
    """Its one method, a stream in both directions."""
    converse: Callable[[Iterator[bytes], str], Iterator[bytes]]
    """One conversation in this trust domain: the peer's messages in, this side's out. SPIRE hears the codes of an `EvidentError`."""


def serve(plugin: Plugin, *, environment: Mapping[str, str], directory: Path | None = None, out: TextIO = sys.stdout) -> None:
    """Serve until the host says that it is enough. The socket is in a new directory below `directory` (default: that for such files).

    Raises `UsageError` ``spire.not-started-by-spire`` where no host started this process.
    """
    if environment.get(plugin.type) != plugin.type:
        raise UsageError.of(
            "spire.not-started-by-spire",
            expected=f"to be started by SPIRE, as a plug-in of type {plugin.type}",
            found="another caller",
            remedy="Name this program as plugin_cmd in SPIRE's configuration; --help shows how.",
        )
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is meant for the host, which ends its plug-ins in its own time
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    place = Path(tempfile.mkdtemp(prefix="evident-plugin-", dir=directory))
    enough = Event()
    server = grpc.server(ThreadPoolExecutor(THREADS), handlers=_handlers(plugin, enough))
    try:
        server.add_insecure_port(f"unix:{place / 'socket'}")
        server.start()
        out.write(f"{_PROTOCOLS}|unix|{place / 'socket'}|grpc\n")
        out.flush()
        with suppress(KeyboardInterrupt):  # that is SIGTERM
            enough.wait()
        server.stop(_GRACE).wait()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def log_line(at: datetime, level: str, message: str, **details: str) -> str:
    """A line for standard error that SPIRE repeats in its own log at this `level` (``info``, ``warn``)."""
    return json.dumps({"@level": level, "@message": message, "@timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), **details})


def _handlers(plugin: Plugin, enough: Event) -> tuple[Any, ...]:
    def stdio(_request: bytes, _context: Any) -> Iterator[bytes]:
        enough.wait()  # nothing is ever printed
        return iter(())

    def start_stream(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        context.add_callback(enough.set)  # the host has it open for as long as it lives: one that was killed says nothing else
        for _ in requests:  # where the host serves what this plug-in does not use
            pass
        return iter(())

    def shutdown(_request: bytes, _context: Any) -> bytes:
        enough.set()
        return b""

    def init(_request: bytes, _context: Any) -> bytes:
        return protobuf.encode(((1, plugin.service.encode()), (1, CONFIG.encode())))

    configuration = _Configuration()
    unary, streamed = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    both = grpc.stream_stream_rpc_method_handler
    services: dict[str, dict[str, Any]] = {
        "grpc.health.v1.Health": {"Check": unary(lambda _request, _context: protobuf.encode(((1, 1),)))},
        "plugin.GRPCBroker": {"StartStream": both(start_stream)},
        "plugin.GRPCController": {"Shutdown": unary(shutdown)},
        "plugin.GRPCStdio": {"StreamStdio": streamed(stdio)},
        "spire.service.private.init.v1.Init": {"Init": unary(init), "Deinit": unary(lambda _request, _context: b"")},
        CONFIG: {"Configure": unary(configuration.configure), "Validate": unary(configuration.validate)},
        plugin.service: {plugin.method: both(_conversation(plugin, configuration))},
    }
    return tuple(grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items())


class _Configuration:
    """The trust domain, once the host has told it."""

    def __init__(self) -> None:
        self._trust_domain = ""

    @property
    def trust_domain(self) -> str:
        if not self._trust_domain:
            raise UsageError.of("spire.order", expected="Configure first", found="nothing of the kind", remedy="Load the plug-in by SPIRE.")
        return self._trust_domain

    def configure(self, request: bytes, context: Any) -> bytes:
        try:
            self._trust_domain = _trust_domain(request)
        except EvidentError as error:
            _abort(context, error, str(error))
        return b""

    def validate(self, request: bytes, _context: Any) -> bytes:
        try:
            _trust_domain(request)
        except EvidentError as error:
            return protobuf.encode(((2, str(error).encode()),))
        return protobuf.encode(((1, 1),))


def _trust_domain(request: bytes) -> str:
    """That of a request to configure, checked. Raises `Malformed` and `UsageError`."""
    whole = protobuf.parse(request, "spire.configuration")
    core, data = protobuf.parse(whole.one_bytes(1), "spire.configuration"), whole.one_bytes(2)
    if data.strip():
        raise UsageError.of(
            "spire.plugin-data",
            expected="an empty plugin_data",
            found=f"{len(data)} bytes",
            remedy="Give the plug-in its options as plugin_args; its --help has them all.",
        )
    return check_trust_domain(core.one_bytes(1).decode(errors="replace"))


def _conversation(plugin: Plugin, configuration: _Configuration) -> Callable[[Iterator[bytes], Any], Iterator[bytes]]:
    def conversation(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        deadline = Timer(CONVERSATION_SECONDS, context.cancel)
        deadline.daemon = True
        deadline.start()
        try:
            yield from plugin.converse(requests, configuration.trust_domain)
        except EvidentError as error:
            _abort(context, error, ", ".join(dict.fromkeys(finding.code for finding in error.findings)))
        finally:
            deadline.cancel()

    return conversation


def _abort(context: Any, error: EvidentError, text: str) -> None:
    context.abort(_STATUS.get(error.decision, grpc.StatusCode.PERMISSION_DENIED), text)
