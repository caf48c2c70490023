"""The cache on disk: damage, several processes, a killed writer, a full disk, bounds."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evident.endorsements import cache as cache_module
from evident.endorsements.cache import Cache
from evident.errors import CollateralUnavailable

NOW = datetime(2026, 6, 1, tzinfo=UTC)
URL = "https://kds.example/vcek/v1/Milan/crl"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def files(cache: Cache, directory: str) -> list[Path]:
    return sorted((cache.root / directory).iterdir())


def run(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def test_what_was_stored_is_found(cache: Cache) -> None:
    assert cache.lookup(URL) is None
    assert not cache.root.exists()  # looking writes nothing
    cache.store(URL, b"body", NOW)
    entry = cache.lookup(URL)
    assert entry is not None
    assert (entry.url, entry.body, entry.retrieved_at) == (URL, b"body", NOW)
    cache.store(URL, b"newer", NOW)
    newer = cache.lookup(URL)
    assert newer is not None
    assert newer.body == b"newer"
    assert files(cache, "tmp") == []


def test_absence_is_remembered(cache: Cache) -> None:
    cache.store_absent(URL, NOW)
    entry = cache.lookup(URL)
    assert entry is not None
    assert entry.body is None


@pytest.mark.parametrize(
    "damage", [lambda old: old[:0], lambda old: old[:-1], lambda old: bytes([old[0] ^ 1]) + old[1:], lambda old: old + b"\0"]
)
@pytest.mark.parametrize("directory", ["bodies", "index"])
def test_damage_counts_as_nothing_and_is_swept(cache: Cache, directory: str, damage: object) -> None:
    cache.store(URL, b"body", NOW)
    (path,) = files(cache, directory)
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.lookup(URL) is None
    assert not path.exists()
    cache.store(URL, b"body", NOW)
    assert cache.lookup(URL) is not None


def test_a_directory_where_a_file_should_be(cache: Cache) -> None:
    cache.store(URL, b"body", NOW)
    (path,) = files(cache, "bodies")
    path.unlink()
    path.mkdir()
    assert cache.lookup(URL) is None


def test_an_index_names_no_file_but_a_body(cache: Cache, tmp_path: Path) -> None:
    """What is not the body that it is named after is removed, so a name must not lead out of the cache."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"keep me")
    cache.store(URL, b"body", NOW)
    (index,) = files(cache, "index")
    text = json.dumps({"url": URL, "retrieved_at": "2026-06-01T00:00:00Z", "sha256": "../../precious"}).encode()
    index.write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
    assert cache.lookup(URL) is None
    assert precious.read_bytes() == b"keep me"


def test_floors_only_rise(cache: Cache) -> None:
    assert cache.crl_floors() == {}
    for number in (3, 7, 5):
        cache.raise_crl_floor("ARK-Milan/vcek", number)
    cache.raise_crl_floor("ARK-Milan/vlek", 0)
    assert cache.crl_floors() == {"ARK-Milan/vcek": 7, "ARK-Milan/vlek": 0}
    (cache.root / "floors").write_text("rubbish")
    assert cache.crl_floors() == {}


def test_floors_from_many_threads(cache: Cache) -> None:
    threads = [threading.Thread(target=cache.raise_crl_floor, args=(f"scope {n % 4}", n)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.crl_floors() == {"scope 0": 36, "scope 1": 37, "scope 2": 38, "scope 3": 39}


def test_a_full_disk(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.store(URL, b"old", NOW)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache_module.os, "fsync", full)
    with pytest.raises(CollateralUnavailable) as caught:
        cache.store(URL, b"new", NOW)
    assert caught.value.code == "cache.write"
    assert "No space left" in str(caught.value)
    monkeypatch.undo()
    assert files(cache, "tmp") == []
    entry = cache.lookup(URL)
    assert entry is not None
    assert entry.body == b"old"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CollateralUnavailable, match="EVIDENT_HOME"):
        Cache(tmp_path / "file" / "cache").store(URL, b"body", NOW)


KILLED = """
import os, sys, time
from datetime import datetime, UTC
from pathlib import Path
from evident.endorsements import cache
def hang(_):
    print("writing", flush=True)
    time.sleep(60)
cache.os.fsync = hang
c = cache.Cache(Path(sys.argv[1]))
with c.lock(sys.argv[2]):
    c.store(sys.argv[2], b"half", datetime(2026, 6, 1, tzinfo=UTC))
"""


def test_a_writer_killed_in_the_middle(cache: Cache) -> None:
    writer = run(KILLED, cache.root, URL)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert cache.lookup(URL) is None
    (rubbish,) = files(cache, "tmp")
    with cache.lock(URL):  # freed by the death
        cache.store(URL, b"whole", NOW)
    entry = cache.lookup(URL)
    assert entry is not None
    assert entry.body == b"whole"
    assert rubbish.exists()  # might still be somebody's
    long_ago = time.time() - 2 * cache_module.SWEEP_AFTER_SECONDS
    os.utime(rubbish, (long_ago, long_ago))
    cache.store(URL, b"again", NOW)
    assert not rubbish.exists()


WRITER = """
import sys
from datetime import datetime, UTC
from pathlib import Path
from evident.endorsements.cache import Cache
c = Cache(Path(sys.argv[1]))
for n in range(25):
    for url in ("https://a.example/1", "https://a.example/2"):
        c.store(url, f"{sys.argv[2]} {n} {url}".encode() * 50, datetime(2026, 6, 1, tzinfo=UTC))
        entry = c.lookup(url)
        assert entry is not None and entry.body.endswith(url.encode()), entry
    c.raise_crl_floor("scope", 100 * int(sys.argv[2]) + n)
"""


def test_several_processes_write_at_once(cache: Cache) -> None:
    writers = [run(WRITER, cache.root, number) for number in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.close()
    for url in ("https://a.example/1", "https://a.example/2"):
        entry = cache.lookup(url)
        assert entry is not None
        assert entry.body is not None
        assert entry.body.endswith(url.encode())
    assert cache.crl_floors() == {"scope": 324}
    assert files(cache, "tmp") == []


def test_bounds_push_the_oldest_out(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_total_bytes=350, max_entries=5)
    for number in range(10):
        cache.store(f"{URL}/{number}", bytes([number]) * 100, NOW)
        for directory in ("bodies", "index"):  # ages apart by more than the clock's grain
            for path in files(cache, directory):
                stat = path.stat()
                os.utime(path, (stat.st_atime - 10, stat.st_mtime - 10))
    kept = [number for number in range(10) if (entry := cache.lookup(f"{URL}/{number}")) and entry.body]
    assert kept == [7, 8, 9]
    assert len(files(cache, "index")) <= 5
