"""spire-server's node attestor for confidential VMs: which machine asks, by the evidence of its TEE.

This is no command to call by hand. spire-server starts it; its configuration (HCL) says:

  plugins {
    NodeAttestor "evident" {
      plugin_cmd = "/path/to/evident-spire-attestor"
      plugin_args = ["--cache", "/var/lib/evident/cache", "--policy", "/etc/evident/policy.yaml"]
      plugin_data {}
    }
  }

The name has to be "evident". An entry demands what was verified of a machine, for example:

  spire-server entry create -node -spiffeID spiffe://example.org/shop/machine \\
    -selector evident:measurement:HEX -selector evident:revocation:good

With --reference, no other machine gets as far as an agent's SVID. `docs/spire.md` has all selectors, and what an SVID stands for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from evident.cli import options
from evident.cli.main import Parser
from evident.errors import EvidentError, UsageError

if TYPE_CHECKING:
    from evident.identity.node_attestor import Surety


def configure(parser: argparse.ArgumentParser) -> None:
    options.configure_surety(parser, "genuine hardware, whatever it booted")
    parser.add_argument("--cache", metavar="DIRECTORY", type=Path, help="where endorsements are kept (default: Evident's cache)")


def run(args: argparse.Namespace) -> int:
    """Serve spire-server until it has had enough."""
    from evident.identity import go_plugin
    from evident.identity.node_attestor import NodeAttestor

    attestor = NodeAttestor(
        _surety(args),
        clock=lambda: datetime.now(UTC),
        on_decision=lambda line: print(line, file=sys.stderr, flush=True),
    )
    go_plugin.serve(attestor.plugin, environment=os.environ)
    return 0


def _surety(args: argparse.Namespace) -> Surety:
    from evident.cli import case, documents, paths
    from evident.cli.audit_verify import trusted_anchors
    from evident.endorsements.cache import Cache
    from evident.endorsements.prefetch import remember_crls
    from evident.identity.node_attestor import POLICY, Surety
    from evident.platforms import registry

    cache, anchors = Cache(args.cache or paths.cache_dir()), trusted_anchors(args.unsafe_simulated_root)
    return Surety(
        anchors=anchors,
        fetcher=case.fetcher(args, cache),
        policy=documents.read_policy(args.policy) if args.policy else POLICY,
        references=documents.read_references(args.reference),
        profile=registry.profile(args.platform, datetime.now(UTC).date()) if args.platform else None,
        unsafe=case.unsafe(args),
        crl_floors=cache.crl_floors,
        remember=lambda fetched, pieces: remember_crls(cache, fetched, anchors, pieces),
    )


def main() -> int:
    """What ``plugin_cmd`` names."""
    parser = Parser(prog="evident-spire-attestor", description=__doc__)
    configure(parser)
    try:
        return run(parser.parse_args())
    except EvidentError as error:
        return _report(error)
    except ModuleNotFoundError as error:
        if error.name != "grpc":
            raise
        return _report(
            UsageError.of(
                "cli.packages",
                expected="the packages that the node attestor needs",
                found="no grpc",
                remedy="Install them beside what is there: pip install 'evident[spire]'.",
            )
        )


def _report(error: EvidentError) -> int:
    """To SPIRE's log, as it reads that of a plug-in, and to whoever called this by hand."""
    line = {"@level": "error", "@message": str(error)}
    print(json.dumps(line), file=sys.stderr)
    return error.exit_code
