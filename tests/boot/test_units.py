"""Three units of one image: their order, what each reaches of the others, and what is left of it all after the machine is reset.

The document has the machine attest first, though it has neither a key nor a secret to get (EI-03): denied, it starts none of them.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.boot.owner import Owner, digest

from evident.lifecycle.deployment import Deployment
from evident.platforms.qemu import console, launch, qmp

pytestmark = pytest.mark.slow
Desk = Any  # of conftest.py
PORTS = {"web": 8080, "exporter": 8081}
SERVICE = """
import contextlib, io, sys, traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        code, printed = self.rfile.read(int(self.headers["Content-Length"])), io.StringIO()
        with contextlib.redirect_stdout(printed):
            try:
                exec(code, {})
            except Exception:
                traceback.print_exc(file=printed)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(printed.getvalue().encode())
ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
"""
"""Runs what is posted to it, as the unit that it is."""
ROOT, MEMORY = ("/srv", "/etc", "/usr/bin"), ("/tmp", "/run")  # noqa: S108  # paths of the guest
PREPARE = "import os, time; time.sleep(2); open('/srv/data/prepared', 'w').write(f'by {os.getuid()}')"


def unit(name: str, *words: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "command": ["/usr/bin/python3", "-I", *words], **more}


@pytest.fixture
def crew(desk: Desk, owner: Owner) -> Owner:
    """Whoever has a document for the image of the three."""
    image = desk.build(
        "crew",
        profile="integrity",
        units=[
            unit("prepare", "-c", PREPARE, user="web", on_end="next"),
            unit("exporter", "/srv/service.py", str(PORTS["exporter"]), environment={"TOKEN": "exporter's"}, on_end="restart"),
            unit("web", "/srv/service.py", str(PORTS["web"])),
        ],
        files=[{"path": "/srv/service.py", "text": SERVICE}],
        writable=[*({"path": path, "size": "16m"} for path in MEMORY), {"path": "/srv/data", "user": "web"}],
    )
    inbound = [{"port": port, "peer": "127.0.0.1/32"} for port in PORTS.values()]
    named = {"path": str(image), "sha256": digest(image)}
    owner.write(named, attest_first=True, network={"inbound": inbound})
    return owner


def run(shop: Deployment, name: str, code: str) -> str:
    """Have unit `name` run `code`: what it printed; nothing where it is not there, or ends over it."""
    try:
        address = shop.driver().addresses(shop.machine)[PORTS[name]]
        with urllib.request.urlopen(
            urllib.request.Request(f"http://{address}/", code.encode()), timeout=60
        ) as answer:  # an address of ours
            return str(answer.read().decode())
    except OSError:
        return ""


def units_said(shop: Deployment) -> list[str]:
    """What the first process said of its units, without their programs."""
    said = (text.partition("evident: unit ")[2] for _, text in console.lines(shop.machine))
    return [text.removesuffix(": /usr/bin/python3") for text in said if text]


def test_three_units(desk: Desk, crew: Owner, eventually: Callable[..., None]) -> None:
    crew.types("up", str(crew.path))
    shop = crew.shop
    done = [step.name for step in console.steps(shop.machine) if step.event == "done"]
    assert done == ["devices", "network", "key", "challenge", "evidence", "release", "verity", "root"]
    assert desk.events == ["challenged", "released", "confirmed"]
    assert units_said(shop) == ["prepare started", "prepare ended: exit code 0", "exporter started", "web started"]
    for name, number in (("exporter", 1001), ("web", 1000)):
        eventually(lambda name=name, number=number: run(shop, name, "import os; print(os.getuid())") == f"{number}\n", name)
    assert run(shop, "web", "print(open('/srv/data/prepared').read())") == "by 1000\n"
    nothing_of_the_other_is_within_reach(shop)
    one_that_is_killed_is_started_again(shop, eventually)
    what_was_written_is_gone_after_a_reset(crew, eventually)


WRITES = """
import errno, json
found = {}
for place in PLACES:
    try:
        with open(f'{place}/written', 'x') as stream:
            stream.write('NAME')
        found[place] = ''
    except OSError as error:
        found[place] = errno.errorcode[error.errno]
print(json.dumps(found))
"""
REACHES = """
import errno, json, os
found = {}
def attempt(what, how):
    try:
        how()
        found[what] = ''
    except OSError as error:
        found[what] = errno.errorcode[error.errno]
for name in ('mem', 'environ', 'maps', 'fd/0', 'cwd'):
    attempt(name, lambda: os.close(os.open(f'/proc/PROCESS/{name}', os.O_RDONLY)))
attempt('kill', lambda: os.kill(PROCESS, 9))
for path in PATHS:
    attempt(path, lambda: open(path, 'rb'))
    attempt(f'remove {path}', lambda: os.remove(path))
print(json.dumps(found))
"""


def writes(shop: Deployment, name: str, *places: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(run(shop, name, WRITES.replace("PLACES", repr(places)).replace("NAME", name)))
    return found


def nothing_of_the_other_is_within_reach(shop: Deployment) -> None:
    """Neither memory, environment and files nor the life of its processes; each reaches its own. ST-10: and the root, nobody writes to."""
    sizes = f"import os; print([os.statvfs(place).f_blocks * os.statvfs(place).f_frsize >> 20 for place in {MEMORY!r}])"
    assert run(shop, "web", sizes) == "[16, 16]\n"
    read_only = dict.fromkeys(ROOT, "EROFS")
    assert writes(shop, "web", *ROOT, *MEMORY, "/srv/data") == {**read_only, **dict.fromkeys((*MEMORY, "/srv/data"), "")}
    assert writes(shop, "exporter", "/srv/data") == {"/srv/data": "EACCES"}
    process = {name: run(shop, name, "import os; print(os.getpid())").strip() for name in PORTS}
    paths = [f"{place}/written" for place in (*MEMORY, "/srv/data")]
    wanted = {"kill": "EPERM", **dict.fromkeys(("mem", "environ", "maps", "fd/0", "cwd", *paths), "EACCES")}
    wanted |= {f"remove {path}": "EACCES" if path.startswith("/srv/data") else "EPERM" for path in paths}
    reaches = REACHES.replace("PROCESS", process["web"]).replace("PATHS", repr(paths))
    assert json.loads(run(shop, "exporter", reaches)) == wanted
    assert json.loads(run(shop, "web", REACHES.replace("PROCESS", process["exporter"]).replace("PATHS", "()"))) == {
        name: wanted[name] for name in ("mem", "environ", "maps", "fd/0", "cwd", "kill")
    }
    assert "exporter's" in run(shop, "exporter", "print(open('/proc/self/environ').read())")
    assert run(shop, "web", f"print([open(path).read() for path in {paths!r}])") == "['web', 'web', 'web']\n"


def one_that_is_killed_is_started_again(shop: Deployment, eventually: Callable[..., None]) -> None:
    assert run(shop, "exporter", "import os; os.kill(os.getpid(), 9)") == ""
    eventually(lambda: run(shop, "exporter", "print('here')") == "here\n", "the exporter, again")
    assert units_said(shop)[4:] == ["exporter ended: signal 9", "exporter started"]
    assert run(shop, "web", "print('here')") == "here\n"


def what_was_written_is_gone_after_a_reset(crew: Owner, eventually: Callable[..., None]) -> None:
    """ST-10: what `writes` left in memory."""
    shop = crew.shop
    look = f"import os; print([os.path.exists(f'{{place}}/written') for place in {(*MEMORY, '/srv/data')!r}])"
    assert run(shop, "web", look) == "[True, True, True]\n"
    with qmp.monitor(shop.machine) as talk:
        talk.command("system_reset")
    eventually(lambda: not shop.driver().parts(shop.machine)["qemu"], "the end of the machine that was reset")
    crew.types("up", str(crew.path))
    eventually(lambda: run(shop, "web", look) == "[False, False, False]\n", "the machine again, without what was written")


@pytest.mark.life
@pytest.mark.attack("EI-03", "A machine whose launch is not the expected one starts its units before anybody has asked.", "guest.denied")
@pytest.mark.parametrize("first", [False, True], ids=["check off", "check on"])
def test_a_machine_that_attests_first_starts_nothing_when_it_is_denied(crew: Owner, cheat: Callable[[Any], None], first: bool) -> None:
    """The same machine, its command line longer by a word of its host's. Whoever asks it later refuses it: what has started has."""
    cheat(lambda _shop, ordered: replace(ordered, command_line=f"{ordered.command_line} another=word"))
    crew.path.write_text(json.dumps({**json.loads(crew.path.read_text()), "attest_first": first}))
    crew.types("up", str(crew.path), code=11)
    text = [line for _, line in console.lines(crew.shop.machine)]
    assert any(launch.READY in line for line in text) is not first
    assert bool(units_said(crew.shop)) is not first
    assert any("evident: failed guest.denied" in line for line in text) is first
