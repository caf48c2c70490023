"""Remembering what signature checks and parsing of the same bytes gave before (`ChainCache`)."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

from evident.verification.context import ChainCache

T = TypeVar("T")


def remembered(cache: ChainCache | None, question: Hashable, make: Callable[[], T]) -> T:
    """`make()`, or what it gave for the same question in an earlier verification with the same cache."""
    known: T | None = cache.get(question) if cache else None
    if known is None:
        known = make()
        if cache:
            cache.put(question, known)
    return known


def once(cache: ChainCache | None, question: Hashable, check: Callable[[], None]) -> None:
    """Run `check` unless it passed before on the same bytes; only passing is remembered."""
    if cache and cache.get(question):
        return
    check()
    if cache:
        cache.put(question, True)
