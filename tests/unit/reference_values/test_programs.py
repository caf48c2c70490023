"""What an image can run, as reference values: the kernel's list is held against them, and nothing else is."""

from __future__ import annotations

import hashlib

from evident.image.tree import Tree
from evident.reference_values import documents, programs
from evident.reference_values.model import ReferenceSet, by_tpm, level
from evident.verification import ima

ELF = b"\x7fELF\x02\x01\x01" + bytes(9)


def tree() -> Tree:
    made = Tree()
    made.add_file("usr/bin/serve", b"#!/usr/bin/python3\n", 0o755)
    made.add_file("usr/lib/libx.so", ELF)
    made.add_file("srv/page", b"text")
    made.add_link("usr/bin/other", "serve")
    return made


def test_what_can_be_loaded_is_marked_so_or_is_elf() -> None:
    assert tree().loadable() == {
        "/usr/bin/serve": hashlib.sha256(b"#!/usr/bin/python3\n").digest(),
        "/usr/lib/libx.so": hashlib.sha256(ELF).digest(),
    }


def test_the_values_are_what_the_list_is_held_against() -> None:
    initrd = programs.reference({"/usr/bin/serve": bytes(32)}, of="the initrd", origin="a build")
    root = programs.reference(tree().loadable(), of="the root", origin="a build")
    values = documents.load(documents.dump(ReferenceSet(1, (initrd, root)))).values
    held = programs.held_against({"ima": (b"list",), "allow-list": (b"# the verifier's own\n",)}, values)
    assert held["ima"] == (b"list",)
    allowed = ima.merge(map(ima.parse_allow_list, held["allow-list"]))
    assert allowed is not None
    digests = {f"sha256:{digest.hex()}" for digest in (bytes(32), root.components["/usr/bin/serve"])}
    assert allowed.digests["/usr/bin/serve"] == digests, "each value adds to the others"
    assert len(held["allow-list"]) == 3


def test_without_a_list_or_without_values_nothing_is_added() -> None:
    value = programs.reference(tree().loadable(), of="the root", origin="a build")
    assert programs.held_against({"report": (b"x",)}, (value,)) == {"report": (b"x",)}
    assert programs.held_against({"ima": (b"x",)}, ()) == {"ima": (b"x",)}


def test_they_settle_no_level_and_no_register_of_the_boot() -> None:
    value = programs.reference(tree().loadable(), of="the root", origin="a build")
    assert level((value,)) == 0
    assert not by_tpm((value,))
    assert programs.among((value,)) == (value,)
