"""What an image has beside the guest where SPIRE stands between the machine and its key server: agent, configuration and trust bundle.

The agent's configuration names no server: that is in the machine's command line, which is measured as this is. Source: SPIRE 1.13,
doc/spire_agent.md, doc/plugin_agent_workloadattestor_unix.md.
"""

from __future__ import annotations

import hashlib
from typing import Final

from evident.errors import Malformed
from evident.image import elf
from evident.image.initrd import INTERPRETER, PYTHON
from evident.image.spec import SpireSpec
from evident.image.tree import Tree

AGENT: Final = "usr/bin/spire-agent"
CONFIGURATION: Final = "etc/spire/agent.conf"
BUNDLE: Final = "etc/spire/bundle.pem"
NODE_ATTESTOR, FETCH_KEY = "evident.guest.node_attestor", "evident.guest.fetch_key"
PROGRAMS: Final = (NODE_ATTESTOR, FETCH_KEY)
"""Modules of the guest that run as programs of their own."""
OWN_FILES: Final = (CONFIGURATION, BUNDLE)
"""Made here from the specification."""
_CODE: Final = f"{PYTHON}/{FETCH_KEY.replace('.', '/')}.pyc"
LISTED: Final = (AGENT, CONFIGURATION, BUNDLE, _CODE, INTERPRETER)
"""What the inventory says of an image (requirement BW-03)."""


def lay(tree: Tree, spec: SpireSpec, agent: bytes) -> int:
    """Add to the initrd `tree` what `spec` says; its size in bytes. Raises `Malformed` (``image.spire-agent``)."""
    if not elf.is_elf(agent):
        raise Malformed.of(
            "image.spire-agent",
            expected="an ELF program",
            found=repr(agent[:8]),
            remedy="Name the file spire-agent itself, not its archive.",
        )
    if libraries := elf.needed(agent):
        raise Malformed.of(
            "image.spire-agent",
            expected="a program that needs no library",
            found=", ".join(libraries)[:100],
            remedy="Take SPIRE's released program, or build it with CGO_ENABLED=0.",
        )
    tree.add_file(AGENT, agent, 0o755)
    tree.add_file(CONFIGURATION, configuration(spec.trust_domain, hashlib.sha256(tree.read(INTERPRETER)).hexdigest()))
    tree.add_file(BUNDLE, spec.bundle.encode())
    return sum(len(tree.read(path)) for path in (AGENT, CONFIGURATION, BUNDLE))


def configuration(trust_domain: str, interpreter: str) -> bytes:
    """The agent's, in HCL. Its keys stay in memory; its server's certificate has to be of the bundle, from the first connection on (SP-17).

    `interpreter` is the SHA-256 that the agent demands of the program that it starts as node attestor (AT-42).
    """
    return f"""agent {{
  trust_domain      = "{trust_domain}"
  trust_bundle_path = "/{BUNDLE}"
  data_dir          = "/run/spire/data"
  socket_path       = "/run/spire/agent.sock"
  log_format        = "json"
}}
plugins {{
  KeyManager "memory" {{
    plugin_data {{}}
  }}
  NodeAttestor "evident" {{
    plugin_cmd      = "/{INTERPRETER}"
    plugin_args     = ["-ISBm", "{NODE_ATTESTOR}"]
    plugin_checksum = "{interpreter}"
    plugin_data {{}}
  }}
  WorkloadAttestor "unix" {{
    plugin_data {{
      discover_workload_path = true
    }}
  }}
}}
""".encode()


def listed(tree: Tree) -> dict[str, bytes]:
    """Path and SHA-256 of each of `LISTED`, as far as it is in the initrd `tree`."""
    return {f"/{path}": hashlib.sha256(tree.read(path)).digest() for path in LISTED if path in tree}
