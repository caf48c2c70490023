"""Build an image that anyone can build again, rebuild somebody else's, or look at one before it boots.

`build` turns a specification and a lock of packages into kernel, initrd, root file system, UKI and disk, with what their boot will
measure, in one signed manifest. `reproduce` builds from a manifest, compares bit for bit and signs the outcome. `inspect` judges nothing.

examples:
  evident image build shop.yaml --out shop.image
  evident image reproduce shop.image/manifest.json
  evident image inspect shop.image/disk.raw -o json
"""

from __future__ import annotations

import argparse
import importlib
from types import MappingProxyType

ACTIONS = MappingProxyType(
    {
        "build": "build an image from a specification",
        "reproduce": "build from a manifest, compare and sign the outcome",
        "inspect": "what an EFI application, a UKI or a disk holds and will measure",
    }
)
"""Each action is a module ``image_ACTION`` beside this one, with `configure` and `run`."""


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
    for name, summary in ACTIONS.items():
        module = importlib.import_module(f"evident.cli.image_{name}")
        child = actions.add_parser(name, help=summary, description=module.__doc__)
        module.configure(child)
        child.set_defaults(action=module.run)


def run(args: argparse.Namespace) -> int:
    code: int = args.action(args)
    return code
