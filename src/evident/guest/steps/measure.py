"""Step 1, where the image says so: have the kernel measure what it loads (IMA), from the first kernel module on.

What ran until then is in the initrd's own measurement. The policy can be set once: Debian's kernel is built without
CONFIG_IMA_WRITE_POLICY, and takes the file away that it is written to. Reads are not measured: the root cannot change, and what is in
memory is data to the kernel, whoever interprets it (`evident.verification.ima.GAPS`).

Source: Linux Documentation/ABI/testing/ima_policy; security/integrity/ima/ima_fs.c (ima_release_policy).
"""

from __future__ import annotations

from pathlib import Path

from evident.errors import Unsupported
from evident.guest import libc

SECURITY = ("securityfs", "/sys/kernel/security", "securityfs", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC, "")
POLICY_FILE = Path("/sys/kernel/security/ima/policy")
POLICY = "measure func=MODULE_CHECK\nmeasure func=FIRMWARE_CHECK\nmeasure func=BPRM_CHECK\nmeasure func=MMAP_CHECK mask=MAY_EXEC\n"


def begin(policy_file: Path = POLICY_FILE) -> None:
    """Set the policy. Raises `Unsupported` ``guest.ima`` where this kernel does not take it."""
    try:
        libc.mount(*SECURITY)
        policy_file.write_text(POLICY)
        refused = "a policy that was not taken" if policy_file.exists() else ""
    except OSError as error:
        refused = f"{error.strerror} ({error.filename})"
    if refused:
        raise Unsupported.of(
            "guest.ima",
            expected="a kernel that measures user space (IMA), and no policy set before",
            found=refused,
            remedy="Build the image with Debian's kernel, or without `ima`.",
            layer="userspace",
        )
