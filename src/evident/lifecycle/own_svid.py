"""The key server's own SVID, by which machines know it: asked of the SPIRE agent on this host, and asked again before it ends.

An agent renews an SVID when half its time is over, and the bundle when the trust domain's authorities change. So what is older than
`FRESH` is asked for again by the next connection, in that connection's own thread. While the agent does not answer, what there is is shown;
machines refuse it themselves once it has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Final

from evident.errors import EvidentError, PolicyRefused
from evident.identity import workload_api
from evident.identity.spire_document import SpireDocument
from evident.identity.workload_api import Svid

FRESH: Final = 30.0
"""Seconds."""
TIMEOUT: Final = 10.0


class OwnSvid:
    """Gives the SVID of now (`evident.keys.server.KeyServer`, `tls`). Raises what `workload_api.fetch` does where there never was one, and
    `PolicyRefused` ``spire.key-server`` for another name than machines have been told.
    """

    def __init__(self, document: SpireDocument, *, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._document = document
        self._say = say
        self._clock = clock
        self._lock = Lock()
        self._asked = clock()
        self._own = self._fetch()

    def __call__(self) -> Svid:
        with self._lock:
            if self._clock() - self._asked > FRESH:
                self._asked = self._clock()
                try:
                    self._own = self._fetch()
                except EvidentError as error:
                    self._say(f"its own SVID is not renewed: {error.findings[0]}")
            return self._own

    def _fetch(self) -> Svid:
        svid = workload_api.fetch(Path(self._document.workload_socket), timeout=TIMEOUT)
        check_name(svid, self._document.key_server)
        return svid


def check_name(svid: Svid, named: str) -> None:
    """A machine hands its request to the key server of its command line and to no other: one of another name would serve nobody."""
    if str(svid.spiffe_id) != named:
        raise PolicyRefused.of(
            "spire.key-server",
            expected=f"the SVID of {named} (`key_server` in the document of EVIDENT_SPIRE) for this process",
            found=f"that of {svid.spiffe_id}",
            remedy="Make an entry for it that this user and program match before others, or correct the document.",
            layer="identity",
        )
