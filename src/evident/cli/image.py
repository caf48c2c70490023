"""Build an image that anyone can build again, rebuild somebody else's, or look at one before it boots.

`build` turns a specification and a lock of packages into kernel, initrd, root file system, UKI and disk, with what their boot will
measure, in one signed manifest. `reproduce` builds from a manifest, compares bit for bit and signs the outcome; `rebuild` does so with the
Debian packages that an image holds, from their source. `inspect` judges nothing.

examples:
  evident image build shop.yaml --out shop.image
  evident image reproduce shop.image/manifest.json
  evident image rebuild shop.lock.json --package netbase --out rebuilt
  evident image inspect shop.image/disk.raw -o json
"""

from __future__ import annotations

import argparse
from types import MappingProxyType

from evident.cli.actions import configure_actions, run_action

ACTIONS = MappingProxyType(
    {
        "build": "build an image from a specification",
        "reproduce": "build from a manifest, compare and sign the outcome",
        "rebuild": "build the packages of an image from source, compare and sign the outcome",
        "inspect": "what an EFI application, a UKI or a disk holds and will measure",
    }
)
"""Each action is a module ``image_ACTION`` beside this one, with `configure` and `run`."""


def configure(parser: argparse.ArgumentParser) -> None:
    configure_actions(parser, "image", ACTIONS)


run = run_action
