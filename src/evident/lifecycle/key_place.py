"""In which store the keys of a deployment are: the state directory's own, or a Vault.

deployments/<name>/vault.json     the Vault's address; not there while the keys are in files

Written before the first key goes there, removed after the last one was deleted. In between, no command of this deployment keeps keys in
another store or looks for them there: what one store has, the other would not release, nor delete.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from evident import codec
from evident.errors import EvidentError, Finding, UsageError
from evident.files import read_private, write_private
from evident.keys import store, vault_document
from evident.keys.store import VolumeStore
from evident.keys.vault import VaultPlace
from evident.lifecycle import keystore
from evident.lifecycle.deployment import Deployment

FILE: Final = "vault.json"


@dataclass(frozen=True, slots=True)
class _Kept:
    version: Literal[1]
    vault: VaultPlace


def check(target: Deployment) -> None:
    """Raises `UsageError` ``keys.place.other`` where keys of `target` are in another store than the one that this command was given."""
    given, kept = _given(target), _kept(target)
    root = keystore.directory(target.surroundings)
    in_files = any(store.holds(root, disk) for disk in VolumeStore(root).disks_under(target.name))
    if (kept is None and not in_files) or given == kept:
        return
    raise UsageError.of(
        "keys.place.other",
        expected=f"the store where the keys of {target.name!r} are: {_words(kept)}",
        found=_words(given),
        remedy="Let EVIDENT_VAULT name the document of that Vault." if kept else "Unset EVIDENT_VAULT for this deployment.",
    )


def remember(target: Deployment) -> None:
    """Keys of `target` go into the given store from here on; raises what `check` does."""
    check(target)
    given = _given(target)
    if given is not None:
        write_private(target.directory / FILE, codec.encode(_Kept(1, given)))


def delete_all(target: Deployment) -> EvidentError | None:
    """Delete every key of `target`, which may be repeated; or what kept the store from it, for whoever has more to do before it is raised.

    Its last finding is ``keys.undeleted``. The keys are denied all the same: whoever calls this has revoked the disks.
    """
    disks = VolumeStore(keystore.directory(target.surroundings)).disks_under(target.name)
    try:
        if disks:
            _delete(target, disks)
    except EvidentError as error:
        return error.followed_by(_undeleted(target))
    (target.directory / FILE).unlink(missing_ok=True)
    return None


def _delete(target: Deployment, disks: tuple[str, ...]) -> None:
    check(target)
    if _kept(target) == _given(target):
        delete = keystore.deletion(target.surroundings)
        for disk in disks:
            delete(disk)


def _kept(target: Deployment) -> VaultPlace | None:
    path = target.directory / FILE
    return codec.decode(_Kept, codec.loads(read_private(path), "keys.place"), "keys.place").vault if path.exists() else None


def _given(target: Deployment) -> VaultPlace | None:
    document = target.surroundings.vault
    return vault_document.read(document).place if document else None


def _words(place: VaultPlace | None) -> str:
    if place is None:
        return "files below the state directory"
    return f"{place.url}, mount {place.mount!r}, prefix {place.prefix!r}, namespace {place.namespace!r}"


def _undeleted(target: Deployment) -> Finding:
    return Finding(
        "keys.undeleted",
        "storage",
        f"every key of {target.name!r} deleted from its store",
        "keys that are there still; no machine gets them any more, for every disk is revoked",
        "Repeat the command once the store answers.",
    )
