"""TPM 2.0 commands, marshalled here, through the kernel's character device. Big endian.

Source: TCG "Trusted Platform Module Library", version 1.83, Part 3 (commands) and Part 2 (structures and constants); one command is
written, one response read (Linux, ``/dev/tpmrm0``: the kernel's resource manager). Authorisation is the empty password throughout,
but for `unseal`, which satisfies a policy over PCRs, and `activate_credential`, which satisfies that of the endorsement key. What goes to
the TPM and comes back is in the clear (no session is encrypted): whoever carries the TPM's word sees what is sealed, too.
"""

from __future__ import annotations

import hashlib
import os
import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType

from evident.errors import EvidentError
from evident.evidence import tpm
from evident.evidence import tpm_algorithms as alg
from evident.evidence.reader import Reader
from evident.evidence.tpm_public import HANDLE_ENDORSEMENT, HANDLE_OWNER, EccKey, Public, Scheme, Symmetric, buffer, parse, serialize, sized
from evident.evidence.tpm_templates import AES_128_CFB, AK_ATTRIBUTES, EK_HANDLE, EK_RSA_2048
from evident.guest.source import absent

DEVICES = (Path("/dev/tpmrm0"), Path("/dev/tpm0"))
NAME = "tpm"
RESPONSE_BYTES = 4096
PATIENCE_SECONDS = 60
STORAGE_ATTRIBUTES = 0x00030072
"""As an AK's, with decrypt for sign."""
SEALED_ATTRIBUTES = 0x00000092
"""fixedTPM, fixedParent, adminWithPolicy: it opens by its policy alone."""
PCRS = tuple(range(24))
_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002
_PASSWORD_SESSION = 0x40000009
_POLICY_SESSION = 1
_HANDLE_NULL = 0x40000007
_NV_UNDEFINE, _NV_DEFINE, _NV_WRITE, _GET_CAPABILITY = 0x122, 0x12A, 0x137, 0x17A
_EVICT_CONTROL, _CREATE_PRIMARY, _ACTIVATE_CREDENTIAL, _NV_READ, _POLICY_SECRET, _CREATE = 0x120, 0x131, 0x147, 0x14E, 0x151, 0x153
_LOAD, _QUOTE, _UNSEAL = 0x157, 0x158, 0x15E
_FLUSH_CONTEXT, _NV_READ_PUBLIC, _READ_PUBLIC, _START_AUTH_SESSION, _PCR_READ, _POLICY_PCR = 0x165, 0x169, 0x173, 0x176, 0x17E, 0x17F
_NV_CHUNK = 512
_CAP_COMMANDS = 2
_COMMAND_BITS = 0x2000FFFF
"""Of a TPMA_CC: the vendor bit and the command's index, which together are its code."""
_AUTH_READ_WRITE = 0x00040004
"""TPMA_NV_AUTHREAD, TPMA_NV_AUTHWRITE: whoever has the index's own authorisation, here the empty password."""
_TRY_AGAIN = (0x908, 0x90A, 0x922)
"""TPM_RC_YIELDED, TPM_RC_TESTING, TPM_RC_RETRY: ask once more (Part 1, section on response codes)."""
_TRIES, _PAUSE = 100, 0.05
_NV_LIMIT = 64 * 1024
_SECRET_LIMIT = 64
_ECDSA_SHA256 = Scheme(alg.ALG_ECDSA, alg.ALG_SHA256)

Transact = Callable[[bytes], bytes]
"""One command in, its response out; raises `OSError`."""


class CharacterDevice(AbstractContextManager["CharacterDevice"]):
    """The kernel's device; the first of `paths` that can be opened. Raises `EvidentError` ``guest.tpm.unavailable``."""

    def __init__(self, paths: Sequence[Path] = DEVICES) -> None:
        problem = "no device"
        for path in paths:
            try:
                self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except OSError as error:
                problem = f"{path}: {error.strerror}"
            else:
                return
        raise absent(NAME, "a TPM device among " + ", ".join(map(str, paths)), problem)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._descriptor)

    def __call__(self, command: bytes) -> bytes:
        os.write(self._descriptor, command)
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        if not poll.poll(PATIENCE_SECONDS * 1000):
            raise TimeoutError
        return os.read(self._descriptor, RESPONSE_BYTES)


class Tpm:
    """Commands on one TPM. Each raises `EvidentError` (``guest.tpm.unavailable`` with the TPM's response code, `Malformed`)."""

    def __init__(self, transact: Transact) -> None:
        self._transact = transact

    def create_ak(self) -> tuple[int, Public]:
        """A restricted ECDSA P-256 signing key of the endorsement hierarchy: its handle and public area. The same on every boot."""
        return self._create_primary(HANDLE_ENDORSEMENT, _p256(AK_ATTRIBUTES, _ECDSA_SHA256, Symmetric()))

    def create_from(self, template: bytes) -> tuple[int, Public]:
        """The key of the endorsement hierarchy that a template (TPM2B_PUBLIC or TPMT_PUBLIC) makes; the same on every boot."""
        return self._create_primary(HANDLE_ENDORSEMENT, parse(template))

    @contextmanager
    def endorsement_key(self) -> Iterator[tuple[int, Public]]:
        """The EK's handle and public area: the one that is kept in the TPM, else the one that its default template makes."""
        try:
            kept = parse(self.read_public(EK_HANDLE))
        except EvidentError:
            handle, public = self._create_primary(HANDLE_ENDORSEMENT, EK_RSA_2048)
            try:
                yield handle, public
            finally:
                self.flush(handle)
        else:
            yield EK_HANDLE, kept

    def activate_credential(self, credential_blob: bytes, encrypted_secret: bytes) -> bytes:
        """The secret of a credential (TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET) that was made for this TPM's EK and the name of its AK."""
        key, _ = self.create_ak()
        handles = [key]
        try:
            with self.endorsement_key() as (endorsement, _):
                session = self._policy_session(handles)
                anything = sized(b"") * 3 + bytes(4)  # no nonce, no one command, no reference, no end
                self._authorised(_POLICY_SECRET, (HANDLE_ENDORSEMENT, session), anything)
                both = (_PASSWORD_SESSION, session)
                reader = self._authorised(_ACTIVATE_CREDENTIAL, (key, endorsement), credential_blob + encrypted_secret, sessions=both)
                return buffer(reader, "secret", _SECRET_LIMIT)
        finally:
            for handle in reversed(handles):
                self.flush(handle)

    def create_storage_key(self) -> tuple[int, Public]:
        """The storage key below which data are sealed, of the owner hierarchy."""
        return self._create_primary(HANDLE_OWNER, _p256(STORAGE_ATTRIBUTES, Scheme(), AES_128_CFB))

    def quote(self, key: int, extra_data: bytes, selections: tuple[tpm.PcrSelection, ...]) -> tuple[bytes, bytes]:
        """TPMS_ATTEST and TPMT_SIGNATURE over PCRs, by the key's own scheme."""
        parameters = sized(extra_data) + alg.ALG_NULL.to_bytes(2, "big") + _selections(selections)
        reader = self._authorised(_QUOTE, (key,), parameters)
        return buffer(reader, "quoted"), reader.take(reader.remaining, "signature")

    def pcr_read(self, bank: str, indices: Sequence[int] = PCRS) -> dict[int, bytes]:
        """PCR values of one bank; empty when the bank is not allocated."""
        values: dict[int, bytes] = {}
        wanted = list(indices)
        while wanted:
            reader = self._plain(_PCR_READ, _selections((tpm.PcrSelection.of(bank, tuple(wanted[:8])),)))
            reader.u32("update counter", order="big")
            returned = [index for selection in tpm.parse_selections(reader) for index in selection.indices]
            digests = [buffer(reader, "digest", 64) for _ in range(min(reader.u32("number of digests", order="big"), 8))]
            if not digests or len(returned) != len(digests):
                return values
            values.update(zip(returned, digests, strict=True))
            wanted = [index for index in wanted if index not in values]
        return values

    def implements(self, code: int) -> bool:
        """Whether the TPM lists this command (Part 3, TPM2_GetCapability: from `code` on, those of a vendor last)."""
        reader = self._plain(_GET_CAPABILITY, _word(_CAP_COMMANDS) + _word(code) + _word(1))
        reader.take(1 + 4, "more data, capability")
        return reader.u32("number of commands", order="big") > 0 and reader.u32("command", order="big") & _COMMAND_BITS == code

    @contextmanager
    def message_buffer(self, index: int, size: int) -> Iterator[None]:
        """An NV index of `size` bytes for `nv_write`, `nv_read` and `vendor` by its own authorisation; what was there before is gone."""
        public = _word(index) + _half(alg.ALG_SHA256) + _word(_AUTH_READ_WRITE) + sized(b"") + _half(size)
        with suppress(EvidentError):  # of a run that was killed
            self._authorised(_NV_UNDEFINE, (HANDLE_OWNER, index), b"")
        self._authorised(_NV_DEFINE, (HANDLE_OWNER,), sized(b"") + sized(public))
        try:
            yield
        finally:
            with suppress(EvidentError):
                self._authorised(_NV_UNDEFINE, (HANDLE_OWNER, index), b"")

    def nv_write(self, index: int, data: bytes) -> None:
        """Write `data` to the begin of a `message_buffer`."""
        for offset in range(0, len(data), _NV_CHUNK):
            self._authorised(_NV_WRITE, (index, index), sized(data[offset : offset + _NV_CHUNK]) + _half(offset))

    def vendor(self, code: int, index: int) -> None:
        """A vendor's command on a `message_buffer`: its handles are the index that authorises, and the index."""
        self._authorised(code, (index, index), b"")

    def nv_read(self, index: int, authority: int = HANDLE_OWNER) -> bytes:
        """The contents of an NV index, read with the (empty) authorisation of the owner, or of the index where that is the `authority`."""
        public = Reader(buffer(self._plain(_NV_READ_PUBLIC, index.to_bytes(4, "big")), "NV public"), "tpm.nv")
        public.take(4 + 2 + 4, "index, name algorithm, attributes")
        buffer(public, "policy")
        size = min(public.u16("data size", order="big"), _NV_LIMIT)
        contents = b""
        while len(contents) < size:
            count = min(_NV_CHUNK, size - len(contents))
            parameters = count.to_bytes(2, "big") + len(contents).to_bytes(2, "big")
            chunk = buffer(self._authorised(_NV_READ, (authority, index), parameters), "NV data")
            if len(chunk) != count:
                raise absent(NAME, f"{count} bytes of NV index {index:#x}", f"{len(chunk)}")
            contents += chunk
        return contents

    def read_public(self, handle: int) -> bytes:
        """TPMT_PUBLIC of a loaded or persistent object."""
        return buffer(self._plain(_READ_PUBLIC, handle.to_bytes(4, "big")), "public area")

    def flush(self, handle: int) -> None:
        """Forget a transient object or a session; one that is gone already is as good."""
        with suppress(EvidentError):
            self._plain(_FLUSH_CONTEXT, handle.to_bytes(4, "big"))

    def seal(self, handle: int, secret: bytes, selections: tuple[tpm.PcrSelection, ...], expected: bytes) -> None:
        """Keep at most 128 bytes at the persistent `handle`, for PCRs whose values have the SHA-256 `expected` (of the values, in their
        order). What was there before is gone.
        """
        parent, _ = self.create_storage_key()
        handles = [parent]
        try:
            area = b"".join(
                (
                    alg.ALG_KEYEDHASH.to_bytes(2, "big"),
                    alg.ALG_SHA256.to_bytes(2, "big"),
                    SEALED_ATTRIBUTES.to_bytes(4, "big"),
                    sized(policy_pcr(selections, expected)),
                    alg.ALG_NULL.to_bytes(2, "big"),
                    sized(b""),
                )
            )
            parameters = sized(sized(b"") + sized(secret)) + sized(area) + sized(b"") + bytes(4)
            reader = self._authorised(_CREATE, (parent,), parameters)
            made = sized(buffer(reader, "private part")) + sized(buffer(reader, "public area"))
            loaded = self._authorised(_LOAD, (parent,), made, returns_handle=True)
            handles.append(loaded.u32("handle", order="big"))
            with suppress(EvidentError):  # nothing is there yet
                self._authorised(_EVICT_CONTROL, (HANDLE_OWNER, handle), _word(handle))
            self._authorised(_EVICT_CONTROL, (HANDLE_OWNER, handles[1]), _word(handle))
        finally:
            for each in reversed(handles):
                self.flush(each)

    def unseal(self, handle: int, selections: tuple[tpm.PcrSelection, ...]) -> bytes:
        """What was sealed there, if the PCRs are as they were meant to be."""
        handles: list[int] = []
        try:
            session = self._policy_session(handles)
            self._plain(_POLICY_PCR, session.to_bytes(4, "big") + sized(b"") + _selections(selections))
            return buffer(self._authorised(_UNSEAL, (handle,), b"", sessions=(session,)), "unsealed")
        finally:
            for handle in reversed(handles):
                self.flush(handle)

    def _policy_session(self, handles: list[int]) -> int:
        parameters = sized(os.urandom(16)) + sized(b"") + bytes((_POLICY_SESSION,)) + _half(alg.ALG_NULL) + _half(alg.ALG_SHA256)
        reader = self._plain(_START_AUTH_SESSION, _HANDLE_NULL.to_bytes(4, "big") * 2 + parameters)
        session = reader.u32("session", order="big")
        handles.append(session)
        return session

    def _create_primary(self, hierarchy: int, template: Public) -> tuple[int, Public]:
        parameters = sized(sized(b"") + sized(b"")) + sized(serialize(template)) + sized(b"") + bytes(4)
        reader = self._authorised(_CREATE_PRIMARY, (hierarchy,), parameters, returns_handle=True)
        handle = reader.u32("handle", order="big")
        reader.u32("size of parameters", order="big")
        return handle, parse(buffer(reader, "public area"))

    def _plain(self, code: int, body: bytes) -> Reader:
        return self._run(_NO_SESSIONS, code, body)

    def _authorised(
        self,
        code: int,
        handles: tuple[int, ...],
        parameters: bytes,
        *,
        sessions: tuple[int, ...] = (_PASSWORD_SESSION,),
        returns_handle: bool = False,
    ) -> Reader:
        """A command with its authorisations; the reader stands at the handle that is returned, else at the parameters."""
        authorisation = b"".join(session.to_bytes(4, "big") + sized(b"") + b"\0" + sized(b"") for session in sessions)
        body = b"".join(handle.to_bytes(4, "big") for handle in handles) + len(authorisation).to_bytes(4, "big") + authorisation
        reader = self._run(_SESSIONS, code, body + parameters)
        if returns_handle:
            return reader
        size = reader.u32("size of parameters", order="big")
        return Reader(reader.take(size, "parameters"), "tpm.response")

    def _run(self, tag: int, code: int, body: bytes) -> Reader:
        command = _half(tag) + (10 + len(body)).to_bytes(4, "big") + code.to_bytes(4, "big") + body
        for _ in range(_TRIES):
            try:
                response = self._transact(command)
            except OSError as error:
                raise absent(NAME, f"an answer to command {code:#x}", error.strerror or type(error).__name__) from None
            reader = Reader(response, "tpm.response")
            reader.u16("tag", order="big")
            size, status = reader.u32("size", order="big"), reader.u32("response code", order="big")
            if status not in _TRY_AGAIN:
                break
            time.sleep(_PAUSE)
        if status or size != len(response):
            raise absent(NAME, f"command {code:#x} to succeed", f"response code {status:#x}, {size} of {len(response)} bytes")
        return reader


def policy_pcr(selections: tuple[tpm.PcrSelection, ...], expected: bytes) -> bytes:
    """The policy digest (SHA-256) of TPM2_PolicyPCR alone (Part 3, section TPM2_PolicyPCR)."""
    return hashlib.sha256(bytes(32) + _POLICY_PCR.to_bytes(4, "big") + _selections(selections) + expected).digest()


def _p256(attributes: int, scheme: Scheme, symmetric: Symmetric) -> Public:
    """The template of a key on P-256; the same hierarchy makes the same key of it every time."""
    return Public(alg.ALG_SHA256, attributes, b"", symmetric, scheme, EccKey(alg.CURVE_P256, Scheme(), b"", b""), b"")


def _half(value: int) -> bytes:
    return value.to_bytes(2, "big")


def _word(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _selections(selections: tuple[tpm.PcrSelection, ...]) -> bytes:
    wire = b"".join(_half(item.algorithm) + bytes((len(item.select),)) + item.select for item in selections)
    return len(selections).to_bytes(4, "big") + wire
