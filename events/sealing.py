"""Sealing: personal content encrypted under a key, so that to destroy the key is to erase it.

Pure: a key and bytes in, text out. AES-256-GCM with a random nonce of 96 bits; one key seals far
fewer than the 2**32 contents up to which that is safe. What a content belongs to is bound in as
associated data: in another place, or changed by one bit, it does not open.
"""

import os
import zlib
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from dataclasses import dataclass, field
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SECRET_BYTES = 32
NONCE_BYTES = 12  # what GCM wants; NIST SP 800-38D
FAST = 1  # zlib's level: text of an answer shrinks by half, in microseconds
CONTENT_BYTES_MAX = 16_777_216
"""Of an opened content: more than any event may have, so that a small text can't fill memory."""


class Unopenable(Exception):
    """Sealed text that is damaged, stands in another place, or was sealed under another key."""


@dataclass(frozen=True, slots=True)
class ContentKey:
    """A key, and the name that what is sealed under it carries."""

    id: UUID
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sealed:
    """Sealed text taken apart: `KEY.VERSION.BOX`."""

    key: UUID
    version: int
    """Of the fields inside."""
    box: bytes


def fresh_key(key_id: UUID) -> ContentKey:
    return ContentKey(key_id, os.urandom(SECRET_BYTES))


def seal(key: ContentKey, version: int, content: bytes, place: bytes) -> str:
    """`content` as text that only the same key opens, and only at the same `place`."""
    nonce = os.urandom(NONCE_BYTES)
    bound = _bound(place, version)
    box = nonce + AESGCM(key.secret).encrypt(nonce, zlib.compress(content, FAST), bound)
    return f"{key.id}.{version}.{b64encode(box).decode()}"


def unseal(key: ContentKey, sealed: Sealed, place: bytes) -> bytes:
    """The inverse of `seal`. Raises Unopenable."""
    nonce, box = sealed.box[:NONCE_BYTES], sealed.box[NONCE_BYTES:]
    try:
        packed = AESGCM(key.secret).decrypt(nonce, box, _bound(place, sealed.version))
        unpacking = zlib.decompressobj()
        content = unpacking.decompress(packed, CONTENT_BYTES_MAX)
    except (InvalidTag, ValueError, zlib.error) as error:
        raise Unopenable("sealed content is damaged, or stands in another place") from error
    if not unpacking.eof:
        raise Unopenable(f"sealed content is longer than {CONTENT_BYTES_MAX} bytes")
    return content


def parse(text: object) -> Sealed:
    """Raises Unopenable for what `seal` never makes."""
    try:
        if not isinstance(text, str):
            raise TypeError("it is no text")
        key, version, box = text.split(".")
        found = Sealed(UUID(key), int(version), b64decode(box, validate=True))
    except (ValueError, TypeError, NotBase64) as error:
        raise Unopenable("this is no sealed content") from error
    if f"{found.key}.{found.version}.{b64encode(found.box).decode()}" != text:
        raise Unopenable("this is no sealed content")
    return found


def _bound(place: bytes, version: int) -> bytes:
    return b"%b\n%d" % (place, version)
