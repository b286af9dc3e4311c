"""Signatures: who vouches for an artifact. A digest tells damage from health, a signature tells our files from others'.

Ed25519 (RFC 8032) over the contract's JSON as it stands in the file; the contract holds the SHA-256 of the model's bytes, so
that nothing a board acts upon is left out. The signature stands inside the file: one rename exchanges both. Keys are PEM files
as OpenSSL makes them. The package `cryptography` (extra `sign`) is needed only by those who sign or demand signatures.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.errors import InputError, MissingDependencyError, SignatureError
from edgecnn.files import read_bytes
from edgecnn.quick_dataclass import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

# Edwards25519 (RFC 8032, 5.1): its prime, and the y coordinates of the eight points whose order divides 8.
_PRIME = 2**255 - 19
_Y_OF_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER = frozenset({0, 1, _PRIME - 1, _Y_OF_ORDER_8, _PRIME - _Y_OF_ORDER_8})
# A signature that the same key made for something else must be of no use here.
_PURPOSE = b"edgecnn artifact signature 1\0"
_MAX_KEY_BYTES = 2**16
_MAKE_PRIVATE = "make one with: openssl genpkey -algorithm ed25519 -out key.pem"
_MAKE_PUBLIC = "make it from the private key with: openssl pkey -in key.pem -pubout -out public.pem"


@dataclass(frozen=True)
class TrustedKey:
    """A public key, read once: exchanging the file of the key while a camera runs changes nothing. `raw` has 32 bytes."""

    path: Path
    raw: bytes

    @classmethod
    def open(cls, path: Path) -> TrustedKey:
        """Read a PEM file; InputError when it holds no Ed25519 public key, MissingDependencyError without the extra.

        A key of small order is refused: one and the same signature passes for every eighth message, or for every one.
        """
        raw = _raw(_read_public(path))
        # The highest bit is the sign of x; coordinates may be written with the prime added to them.
        if (int.from_bytes(raw, "little") & (2**255 - 1)) % _PRIME in _SMALL_ORDER:
            raise InputError(f"{path} holds an Ed25519 key of small order, for which anybody can sign; {_MAKE_PRIVATE}")
        return cls(path, raw)

    @property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the key's SHA-256."""
        return fingerprint(self.raw)

    def check(self, contract_json: bytes, signature: bytes | None, path: Path) -> None:
        """Raise SignatureError unless `signature` was made for this contract by the key's owner; `path` names the file."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        if signature is None:
            raise SignatureError(
                f"{path} carries no signature and {self.path} demands one; sign it where it was exported: edgecnn sign"
            )
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, _PURPOSE + contract_json)
        except InvalidSignature as error:
            raise SignatureError(
                f"{path} is not signed by the key {self.path} ({self.fingerprint}): another key signed it, or it was altered"
            ) from error


def sign_contract(contract_json: bytes, key: Path) -> tuple[bytes, str]:
    """Sign a contract with the private key in a PEM file; return the 64 bytes and the public key's fingerprint.

    Raises InputError when the file holds no unencrypted Ed25519 private key, MissingDependencyError without the extra.
    """
    private = _read_private(key)
    return private.sign(_PURPOSE + contract_json), fingerprint(_raw(private.public_key()))


def fingerprint(raw: bytes) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a public key's 32 bytes."""
    return hashlib.sha256(raw).hexdigest()[:16]


def _read_private(path: Path) -> Ed25519PrivateKey:
    _need_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    try:
        key = serialization.load_pem_private_key(read_bytes(path, at_most=_MAX_KEY_BYTES), password=None)
    except TypeError as error:
        raise InputError(f"{path} is encrypted; decrypt it with: openssl pkey -in {path} -out key.pem") from error
    except ValueError as error:
        raise _refusal(error, f"{path} holds no private key in PEM; {_MAKE_PRIVATE}") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InputError(f"{path} holds a private key of another kind than Ed25519; {_MAKE_PRIVATE}")
    return key


def _read_public(path: Path) -> Ed25519PublicKey:
    _need_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    try:
        key = serialization.load_pem_public_key(read_bytes(path, at_most=_MAX_KEY_BYTES))
    except ValueError as error:
        raise _refusal(error, f"{path} holds no public key in PEM; {_MAKE_PUBLIC}") from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise InputError(f"{path} holds a public key of another kind than Ed25519; {_MAKE_PRIVATE}")
    return key


def _refusal(error: ValueError, text: str) -> InputError:
    """Return an error that tells `text`, or `error` itself where it is of our own making (no such file)."""
    return error if isinstance(error, InputError) else InputError(text)


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes_raw()


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401  # only whether it is there
    except ImportError as error:
        raise MissingDependencyError("signatures need cryptography. Install it with: pip install 'edgecnn[sign]'") from error
