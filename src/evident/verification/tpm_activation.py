"""The steps of procedure ``tpm`` about whose TPM the attestation key lives in (`evident.verification.credential`).

Where a credential was sent to the machine's TPM, and where somebody says which endorsement key (EK) that TPM has, in order:

(16) tpm.activation-ek          the credential was for the EK that came with the evidence, a key that opens nothing but credentials
(17) tpm.activation-ak          it was for the name of the key that signed the quotes
(18) tpm.activation-credential  made again from the randomness on record, it is the one that was sent
(19) tpm.activation-answer      the answer takes the secret, and is of this challenge
(20) tpm.ek-named               the EK is the one that the machine's TPM is said to have

Steps 16 to 18 show a stranger that the question was right, 19 that the answer on record is. That it came from the machine is the word of
the verifier who asked and signed the bundle: whoever makes the credential knows its secret.
"""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives import serialization

from evident.errors import NotAuthentic
from evident.evidence import binding, tpm_public
from evident.evidence.tpm_public import Public
from evident.verification import credential
from evident.verification.credential import Activation, NamedKey
from evident.verification.procedure import Step
from evident.verification.tpm_case import Case

LAYER = "vtpm"
WITNESSED, NAMED = "tpm.activation-witnessed", "tpm.ek-named-only"
_ATTRIBUTES = {"restricted": True, "sign": False, "decrypt": True, "fixed_tpm": True, "fixed_parent": True, "sensitive_data_origin": True}
_ATTEST_AGAIN = "Attest again; if it returns, the pieces are of different machines."


def _refuse(code: str, expected: str, found: str, remedy: str = _ATTEST_AGAIN) -> NotAuthentic:
    return NotAuthentic.of(code, expected=expected, found=found, remedy=remedy, layer=LAYER)


def _activation(case: Case) -> Activation:
    if case.context.activation is None:
        raise AssertionError("a step ran without the activation that it is about")
    return case.context.activation


def _named(case: Case) -> NamedKey:
    if case.context.named is None:
        raise AssertionError("a step ran without the key that it is about")
    return case.context.named


def _ek(case: Case) -> None:
    """(16) AT-23: an EK that answers somewhere is not yet this machine's. AT-22: one that decrypts for its user opens any credential."""
    asked = _activation(case).ek
    if case.ek is None or not hmac.compare_digest(asked, case.ek.raw):
        raise _refuse(
            "tpm.activation.ek",
            f"a credential for the endorsement key of the evidence, {_name(case.ek)}",
            f"one for {tpm_public.parse(asked).name.hex()}",
        )
    flags = case.ek.attribute_flags
    wrong = [f"{name} {'not ' if wanted else ''}set" for name, wanted in _ATTRIBUTES.items() if flags[name] is not wanted]
    if wrong:
        raise _refuse(
            "tpm.activation.ek-attributes",
            "a restricted decryption key with fixedTPM, fixedParent and sensitiveDataOrigin",
            ", ".join(wrong),
            "Whoever uses such a key can open credentials for keys outside the TPM: name an endorsement key made from a template.",
        )


def _ak(case: Case) -> None:
    """(17) AT-22: the name covers the whole public area, and with it what the key may sign."""
    public, asked = case.ak.public, _activation(case).ak_name
    if public is None or not hmac.compare_digest(asked, public.name):
        raise _refuse(
            "tpm.activation.ak", f"a credential for the attestation key of the evidence, {_name(public)}", f"one for {asked.hex()}"
        )


def _credential(case: Case) -> None:
    """(18) Nothing of it was left to whoever recorded it."""
    recorded = _activation(case)
    again = credential.again(recorded)
    if again.answered(recorded.answer) != recorded:
        raise _refuse(
            "tpm.activation.credential",
            f"credential {again.credential_blob.hex()[:32]}..., made of the randomness on record",
            f"{recorded.credential_blob.hex()[:32]}... or another secret",
            "The record was altered: get it again from whoever exported it.",
        )


def _answer(case: Case) -> None:
    """(19) AT-22, AT-05: an answer to an earlier challenge is none to this one."""
    recorded = _activation(case)
    expected = binding.credential_answer(recorded.drawn[: credential.SECRET_BYTES], case.context.nonce or b"")
    if not hmac.compare_digest(expected, recorded.answer):
        raise _refuse(
            "tpm.activation.answer",
            "an answer to this challenge under the secret that only the TPM with this EK and this AK can decrypt",
            f"another answer, {recorded.answer.hex()[:32]}" if recorded.answer else "no answer",
            "The AK is not in the TPM of this EK: do not trust its quotes.",
        )


def _ek_named(case: Case) -> None:
    """(20) AT-23: the TPM of another machine activates whatever is made for it."""
    named, ek = _named(case), case.ek
    found = ek.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo) if ek else b""
    if not hmac.compare_digest(named.key, found):
        raise _refuse(
            "tpm.ek-named",
            f"the endorsement key that {named.operator} names for this machine",
            f"another one, {_name(ek)}",
            "The quote is of another machine's TPM: do not trust it.",
        )


def _name(public: Public | None) -> str:
    return public.name.hex() if public else "none"


STEPS: tuple[Step[Case], ...] = (
    Step("tpm.activation-ek", "The credential was for the endorsement key of the evidence.", _ek),
    Step("tpm.activation-ak", "The credential was for the attestation key that signed.", _ak),
    Step("tpm.activation-credential", "The credential on record is the one that its randomness makes.", _credential),
    Step("tpm.activation-answer", "The answer to the credential is of this challenge.", _answer),
)
NAMED_STEP: Step[Case] = Step("tpm.ek-named", "The endorsement key is the one that the machine's TPM is said to have.", _ek_named)


def steps(case: Case) -> tuple[Step[Case], ...]:
    """Those that this case has anything for. A key named for a machine that shows no EK is left aside: its AK then stays nobody's."""
    named = (NAMED_STEP,) if case.context.named is not None and case.ek is not None else ()
    return (*(STEPS if case.context.activation is not None else ()), *named)


def activated(case: Case) -> bool:
    """Whether the TPM of the EK was shown to hold the AK, as far as steps 16 to 19 hold."""
    return case.context.activation is not None and case.ek is not None and case.ak.public is not None


def named_by(case: Case) -> NamedKey | None:
    """Who says that the machine's TPM has the EK that vouches for the AK, as far as steps 16 to 20 hold; None where nobody does."""
    return case.context.named if activated(case) else None
