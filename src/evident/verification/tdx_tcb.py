"""Which TCB level a TDX platform reaches, and what follows from platform, TDX module and quoting enclave together.

Source: Intel PCS API version 4, "TCB info" (how to find the TCB level) and "Enclave identity"; convergence as in Intel's quote
verification library (steps 4.1.2.4.17.1 to 4.1.2.4.17.5 of its appraisal). Pure functions: whether the documents are authentic is
decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from evident.endorsements.intel import IsvLevel, ModuleIdentity, Pck, QeIdentity, TcbInfo, TcbLevel, TcbStatus
from evident.evidence.tdx_quote import TdReport

_OK = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED})
_CONFIGURATION = frozenset({TcbStatus.CONFIGURATION_NEEDED, TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED})
_OUT_OF_DATE = frozenset({TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED})


@dataclass(frozen=True, slots=True)
class TcbVerdict:
    """What Intel's documents say of one quote. `status` is None where no level matches: that is never a pass."""

    status: TcbStatus | None
    platform: TcbLevel | None
    module_id: str
    """``TDX_01``...; empty for the module that TCB info describes without levels."""
    module: IsvLevel | None
    quoting_enclave: IsvLevel | None
    advisories: tuple[str, ...]
    """Of all levels that count, in the order platform, module, quoting enclave, each once."""
    unmatched: str = ""
    """In words, what has no level."""
    headroom: Mapping[str, int] = field(default_factory=dict)
    """See `headroom`."""


def match_platform(info: TcbInfo, pck: Pck, tee_tcb_svn: bytes) -> TcbLevel | None:
    """The first level that the platform reaches in *every* component.

    From module version 1 on (byte 1 of TEE_TCB_SVN) the first two TDX components are judged by the module's own identity.
    """
    first = 2 if tee_tcb_svn[1] > 0 else 0
    for level in info.levels:
        sgx = all(have >= need for have, need in zip(pck.component_svns, level.sgx, strict=True))
        tdx = all(have >= need for have, need in zip(tee_tcb_svn[first:], level.tdx[first:], strict=True))
        if sgx and tdx and pck.pce_svn >= level.pce_svn:
            return level
    return None


def module_identity(info: TcbInfo, tee_tcb_svn: bytes) -> ModuleIdentity | None:
    """What the TDX module must be: by its version, or the one in ``tdxModule`` for version 0; None for an unknown version."""
    if tee_tcb_svn[1] == 0:
        return info.module
    wanted = f"TDX_{tee_tcb_svn[1]:02X}"
    return next((identity for identity in info.module_identities if identity.id.upper() == wanted), None)


def match_isv(levels: Sequence[IsvLevel], isv_svn: int) -> IsvLevel | None:
    """The first level that this ISVSVN reaches; Intel lists the highest first."""
    return next((level for level in levels if isv_svn >= level.isv_svn), None)


def converge(platform: TcbStatus, component: TcbStatus) -> TcbStatus:
    """The platform's status together with that of the module or of the quoting enclave.

    An out-of-date component makes the whole out of date and a revoked one revoked; any other status of a component changes nothing.
    """
    if component is TcbStatus.REVOKED:
        return TcbStatus.REVOKED
    if component is TcbStatus.OUT_OF_DATE and platform in _OK:
        return TcbStatus.OUT_OF_DATE
    if component is TcbStatus.OUT_OF_DATE and platform in _CONFIGURATION:
        return TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED
    return platform


def relaunch(at_launch: TcbStatus, now: TcbStatus) -> TcbStatus:
    """Of a TD whose module was updated under it: started out of date, and the module running now is not (TD report 1.5)."""
    if at_launch not in _OUT_OF_DATE or now not in _OK | _CONFIGURATION:
        return at_launch
    if at_launch is TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED or now in _CONFIGURATION:
        return TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
    return TcbStatus.TD_RELAUNCH_ADVISED


def headroom(info: TcbInfo, qe_identity: QeIdentity | None, pck: Pck, tee_tcb_svn: bytes, qe_isv_svn: int) -> dict[str, int]:
    """Component to its SVN less what the best published level asks, for every component that this level asks anything of."""
    identity = module_identity(info, tee_tcb_svn)
    first = 2 if tee_tcb_svn[1] > 0 else 0
    rows = []
    if info.levels:
        best = info.levels[0]
        rows += [(f"sgx_{index:02}", have, need) for index, (have, need) in enumerate(zip(pck.component_svns, best.sgx, strict=True), 1)]
        rows.append(("pcesvn", pck.pce_svn, best.pce_svn))
        tdx = list(enumerate(zip(tee_tcb_svn, best.tdx, strict=True), 1))[first:]
        rows += [(f"tdx_{index:02}", have, need) for index, (have, need) in tdx]
    if identity and identity.levels:
        rows.append(("tdx_module", tee_tcb_svn[0], identity.levels[0].isv_svn))
    if qe_identity and qe_identity.levels:
        rows.append(("quoting_enclave", qe_isv_svn, qe_identity.levels[0].isv_svn))
    return {name: have - need for name, have, need in rows if need}


def evaluate(info: TcbInfo, qe_identity: QeIdentity | None, pck: Pck, report: TdReport, qe_isv_svn: int) -> TcbVerdict:
    """The verdict over `report`, made on the platform of `pck` and signed by a quoting enclave with this ISVSVN.

    Without QE identity the levels of platform and module are told, and no status follows.
    """
    quoting_enclave = match_isv(qe_identity.levels, qe_isv_svn) if qe_identity else None
    launched = _evaluate_svn(info, pck, report.tee_tcb_svn, quoting_enclave)
    launched = replace(launched, headroom=headroom(info, qe_identity, pck, report.tee_tcb_svn, qe_isv_svn))
    if report.tee_tcb_svn2 is None or launched.status is None:
        return launched
    running = _evaluate_svn(info, pck, report.tee_tcb_svn2, quoting_enclave)
    if running.status is None or running.status is TcbStatus.REVOKED:
        return running
    status = relaunch(launched.status, running.status)
    return replace(launched, status=status)


def _evaluate_svn(info: TcbInfo, pck: Pck, tee_tcb_svn: bytes, quoting_enclave: IsvLevel | None) -> TcbVerdict:
    platform, identity = match_platform(info, pck, tee_tcb_svn), module_identity(info, tee_tcb_svn)
    module = match_isv(identity.levels, tee_tcb_svn[0]) if identity and identity.id else None
    unmatched = []
    if platform is None:
        unmatched.append(
            f"platform (TEE_TCB_SVN {tee_tcb_svn.hex()}, PCK components {bytes(pck.component_svns).hex()}, PCESVN {pck.pce_svn})"
        )
    if identity is None or (identity.id and module is None):
        unmatched.append(f"TDX module version {tee_tcb_svn[1]}, ISVSVN {tee_tcb_svn[0]}")
    if quoting_enclave is None:
        unmatched.append("quoting enclave")
    counted = [level for level in (platform, module, quoting_enclave) if level is not None]
    advisories = tuple(dict.fromkeys(advisory for level in counted for advisory in level.advisories))
    status: TcbStatus | None = None
    if platform is not None and quoting_enclave is not None and not unmatched:
        status = converge(platform.status, module.status) if module else platform.status
        status = converge(status, quoting_enclave.status)
    return TcbVerdict(status, platform, identity.id if identity else "", module, quoting_enclave, advisories, ", ".join(unmatched))
