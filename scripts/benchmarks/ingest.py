"""Ingest through the product's real door: token, validation, lanes, window, acks after COMMIT."""

import asyncio

import numpy as np
import psycopg

from scripts.benchmarks.load import Load, Sent, send
from scripts.benchmarks.rig import BenchError, Rig


async def rate(
    rig: Rig, seconds: float, *, series_samples: int, signals: int = 1, through_envoy: bool = False
) -> dict[str, float]:
    """Committed samples a second, as fast as the server takes them."""
    session_id = await rig.new_session()
    endpoint = _endpoint(rig, through_envoy)
    load = Load(endpoint, rig.tokens, session_id, series_samples, seconds, signals=signals)
    sent = await _send(rig, load)
    return {"rate": await committed_samples(rig.db, session_id, sent) / sent.elapsed_s}


async def ack_latency(rig: Rig, seconds: float, *, series_samples: int) -> dict[str, float]:
    """Percentiles in ms at half of the rate that the server takes; half of the time goes into finding that."""
    top = (await rate(rig, seconds / 2, series_samples=series_samples))["rate"]
    batches_per_s = top / 2 / series_samples / len(rig.tokens)
    session_id = await rig.new_session()
    sent = await _send(rig, Load(rig.direct, rig.tokens, session_id, series_samples, seconds, batches_per_s))
    await committed_samples(rig.db, session_id, sent)
    p50, p99 = np.percentile(sent.ack_latencies_s, [50, 99]) * 1e3
    return {"p50": float(p50), "p99": float(p99)}


async def committed_samples(db: psycopg.AsyncConnection, session_id: str, sent: Sent) -> int:
    """Samples of a session, counted in the database. BenchError: not those that were acknowledged."""
    cursor = await db.execute(
        "SELECT coalesce(sum(n), 0)::bigint FROM sample_blocks WHERE capture_session_id = %s", (session_id,)
    )
    (stored,) = await anext(cursor)
    if stored != sent.samples:
        raise BenchError(f"{sent.samples} samples were acknowledged, but the database has {stored}")
    return int(stored)


async def _send(rig: Rig, load: Load) -> Sent:
    return await asyncio.get_running_loop().run_in_executor(rig.load_process, send, load)


def _endpoint(rig: Rig, through_envoy: bool) -> str:
    return rig.envoy if through_envoy else rig.direct
