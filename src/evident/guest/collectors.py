"""Evidence from whichever source works here (NA-03): openable, and answering. What it proves is for the verifier to find (NA-04).

The measured command line says which world this is. ``evident.tee=hardware`` never falls back to the simulator's channel, and
``evident.tee=simulated`` asks nothing else, so that a machine is what its measurement says.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from evident.guest.source import Evidence, Question, Source, first
from evident.guest.sources import vtpm
from evident.guest.sources.configfs_tsm import ConfigfsTsm
from evident.guest.sources.nitro_tpm import NitroTpm
from evident.guest.sources.sev_guest import SevGuest
from evident.guest.sources.simulated import SimulatedProcessor
from evident.guest.sources.vtpm import AzureNv, GoogleNv, SvsmNv

Tee = Literal["hardware", "simulated"]


def sources(tee: Tee) -> tuple[Source, ...]:
    """The sources to try, in order: those with a TPM that somebody speaks for go before the TEE's report alone."""
    if tee == "simulated":
        return (SimulatedProcessor(),)
    tees = (ConfigfsTsm(), SevGuest())
    return (AzureNv(), GoogleNv(tees), NitroTpm(tees), *tees, SvsmNv())


def answer(candidates: Sequence[Source], question: Question) -> tuple[Evidence, ...]:
    """The TEE's evidence, and behind it what a TPM of the machine says where the TEE's was not got through one. Raises as `collect`."""
    evidence = collect(candidates, question)
    return (evidence, *(vtpm.beside(question) if evidence.kind in ("snp", "tdx") else ()))


def collect(candidates: Sequence[Source], question: Question) -> Evidence:
    """The answer of the first source that gives one. Raises as `first`."""
    return first(partial(source.collect, question) for source in candidates)
