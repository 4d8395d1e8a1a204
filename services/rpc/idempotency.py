"""`Idempotency-Key`: the same key and request get the stored answer, whatever happened to the first one's caller.

The lock comes first, on the credential: a copy of a call that is still running is told at once and holds no connection.
Record and effect are in one transaction. The hash is over what the client sent, before anything is filled in.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import Message

from rigmesh.v1.error_reason_pb2 import IDEMPOTENCY_KEY_BUSY, IDEMPOTENCY_KEY_REUSED
from services.db.pool import Connection
from services.errors import Aborted, FailedPrecondition, invalid_field
from services.rpc.call import Call
from services.rpc.contract import Rpc

KEPT = "48 hours"
_NONCE_BYTES = 12


def read_key(rpc: Rpc, metadata: Mapping[str, str]) -> str:
    """The key, or "" for reads and calls without one. InvalidArgument when it is not 1 to 255 printable characters."""
    key = metadata.get("idempotency-key")
    if key is None or rpc.read_only or rpc.access.ignores_key:
        return ""
    if not re.fullmatch(r"[\x20-\x7e]{1,255}", key):
        raise invalid_field("Idempotency-Key", "must be 1 to 255 printable ASCII characters")
    return key


async def lock(db: Connection, credential_hash: bytes, rpc: Rpc, key: str) -> None:
    """Takes the key until the transaction ends. Aborted when another call holds it."""
    digest = hashlib.sha256(b"|".join((credential_hash, rpc.method.encode(), key.encode()))).digest()
    cursor = await db.execute("SELECT pg_try_advisory_xact_lock(%s)", (int.from_bytes(digest[:8], "big", signed=True),))
    if await cursor.fetchone() != (True,):
        raise _busy()


async def replay(call: Call, rpc: Rpc, key: str, digest: bytes) -> Message | None:
    """The stored answer, or None for a new key. FailedPrecondition when the key came with another request."""
    cursor = await call.db.execute(
        f"""SELECT request_hash, response FROM idempotency_keys
        WHERE principal = %s AND method = %s AND key = %s AND created_at > now() - interval '{KEPT}'""",
        (call.principal.name, rpc.method, key),
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    if row[0] != digest:
        raise FailedPrecondition(IDEMPOTENCY_KEY_REUSED, "this Idempotency-Key was used with another request")
    return rpc.response.FromString(_decrypt(call, row[1]) if rpc.access.returns_secret else row[1])


async def store(call: Call, rpc: Rpc, key: str, digest: bytes, response: Message) -> None:
    """Keeps the answer. An expired record of the same key is replaced.

    Aborted, with the call's effect, when the caller used the key at the same time with another credential: the lock was
    another one then.
    """
    data = response.SerializeToString()
    cursor = await call.db.execute(
        f"""INSERT INTO idempotency_keys (principal, method, key, request_hash, response) VALUES (%s, %s, %s, %s, %s)
        ON CONFLICT (principal, method, key) DO UPDATE
        SET request_hash = excluded.request_hash, response = excluded.response, created_at = now()
        WHERE idempotency_keys.created_at <= now() - interval '{KEPT}'""",
        (
            call.principal.name,
            rpc.method,
            key,
            digest,
            _encrypt(call, data) if rpc.access.returns_secret else data,
        ),
    )
    if cursor.rowcount == 0:
        raise _busy()


def _busy() -> Aborted:
    return Aborted(IDEMPOTENCY_KEY_BUSY, "a call with this Idempotency-Key is still running", retry_after_s=0.5)


def request_hash(request: Message) -> bytes:
    """Identifies what the client sent; to be taken before a handler sees the request."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


def _encrypt(call: Call, data: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(call.key("idempotency")).encrypt(nonce, data, None)


def _decrypt(call: Call, data: bytes) -> bytes:
    return AESGCM(call.key("idempotency")).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], None)
