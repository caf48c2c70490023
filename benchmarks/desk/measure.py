"""Runs in the guest: how long opening LUKS takes by size, and what dm-verity, LUKS and LUKS with integrity cost in reading and writing.

Disks, in order behind the image's own: three to open (10 MB, 1 GB, 10 GB, sparse), then plain, verity's data, verity's hash tree, LUKS,
LUKS with integrity. Every result is a line ``bench {"what": ..., "seconds": ...}`` on the console. Kinds are taken in turn, round by round.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

ROUNDS = 10
CHUNK = 1 << 20
TOTAL = 16 * CHUNK
"""Bytes read and written in each round."""
KEY = b"k" * 64
OPEN = {"10 MB": "/dev/vdb", "1 GB": "/dev/vdc", "10 GB": "/dev/vdd"}
PLAIN, DATA, TREE, LUKS, SEALED = (f"/dev/vd{letter}" for letter in "efghi")
INTEGRITY = ("--integrity", "hmac-sha256")


def run(*words: str, key: bytes = b"") -> str:
    environment = {"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C", "DM_DISABLE_UDEV": "1"}
    done = subprocess.run(words, input=key, capture_output=True, env=environment, check=False)  # fixed words
    if done.returncode:
        print("bench failed", words, done.stderr.decode("ascii", "replace"), flush=True)
        raise SystemExit(1)
    return done.stdout.decode()


def encrypt(device: str, *options: str) -> None:
    """LUKS2 with cryptsetup's own cipher; a random key needs no stretching, and blocks have 4096 bytes, as where Evident seals a root."""
    stretching = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
    form = ("--type", "luks2", "--batch-mode", "--sector-size", "4096", "--key-file", "-")
    run("/usr/sbin/cryptsetup", "luksFormat", *form, *stretching, *options, device, key=KEY)


def open_luks(device: str, name: str) -> None:
    run("/usr/sbin/cryptsetup", "open", "--type", "luks2", "--key-file", "-", device, name, key=KEY)


def close(name: str) -> None:
    run("/usr/sbin/cryptsetup", "close", name)


def opening() -> None:
    for kind, options in {"LUKS": (), "LUKS with integrity": (*INTEGRITY, "--integrity-no-wipe")}.items():
        for device in OPEN.values():
            encrypt(device, *options)
        for _ in range(ROUNDS):
            for size, device in OPEN.items():
                started = time.monotonic()
                open_luks(device, "opened")
                say(f"open {kind}, {size}", started)
                close("opened")


def reading_and_writing() -> None:
    encrypt(LUKS)
    encrypt(SEALED, *INTEGRITY)
    write(DATA)
    root = next(
        line.split()[-1] for line in run("/usr/sbin/veritysetup", "format", DATA, TREE).splitlines() if line.startswith("Root hash")
    )
    run("/usr/sbin/veritysetup", "open", DATA, "verity", TREE, root)
    open_luks(LUKS, "luks")
    open_luks(SEALED, "sealed")
    kinds = {"plain": PLAIN, "verity": "/dev/mapper/verity", "LUKS": "/dev/mapper/luks", "LUKS with integrity": "/dev/mapper/sealed"}
    for _ in range(ROUNDS):
        for kind, device in kinds.items():
            if kind != "verity":
                started = time.monotonic()
                write(device)
                say(f"write {kind}", started)
        forget()
        for kind, device in kinds.items():
            started = time.monotonic()
            read(device)
            say(f"read {kind}", started)


def write(device: str) -> None:
    content = b"evident." * (CHUNK // 8)
    with Path(device).open("r+b", buffering=0) as stream:
        for _ in range(TOTAL // CHUNK):
            stream.write(content)
        os.fsync(stream.fileno())


def read(device: str) -> None:
    with Path(device).open("rb", buffering=0) as stream:
        for _ in range(TOTAL // CHUNK):
            stream.read(CHUNK)


def forget() -> None:
    """Have the next read come from the disk."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def say(what: str, started: float) -> None:
    print("bench " + json.dumps({"what": what, "seconds": time.monotonic() - started}), flush=True)


def main() -> None:
    opening()
    reading_and_writing()
    print("bench done", flush=True)


if __name__ == "__main__":
    main()
