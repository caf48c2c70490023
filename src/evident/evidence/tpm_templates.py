"""What keys of a TPM have to be like: attributes, policy, and the template from which every TPM makes the same endorsement key again.

Source: TCG "EK Credential Profile for TPM Family 2.0", version 2.6, section 2.2.1.4 (NV index) and annex B.3 (template L-1, its policy);
TCG "TPM v2.0 Provisioning Guidance", table 2 (handle); TPMA_OBJECT: TCG "Trusted Platform Module Library, Part 2", version 1.83.
"""

from __future__ import annotations

from typing import Final

from evident.evidence import tpm_algorithms as alg
from evident.evidence.tpm_public import Public, RsaKey, Scheme, Symmetric

AK_ATTRIBUTES: Final = 0x00050072
"""fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign: what tpm2_createak and GCE's template set."""
EK_ATTRIBUTES: Final = 0x000300B2
"""The same without userWithAuth, with adminWithPolicy, decrypt for sign."""
EK_POLICY: Final = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
"""PolicySecret(TPM_RH_ENDORSEMENT)."""
EK_HANDLE: Final = 0x81010001
"""Where a persistent RSA endorsement key is kept."""
EK_CERTIFICATE: Final = 0x01C00002
"""NV index of its certificate."""
AES_128_CFB: Final = Symmetric(0x0006, 128, 0x0043)
EK_RSA_2048: Final = Public(alg.ALG_SHA256, EK_ATTRIBUTES, EK_POLICY, AES_128_CFB, Scheme(), RsaKey(2048, 0, bytes(256)), b"")
"""Template L-1; its modulus of zeros is part of what the key is made from."""
