from typing import Any

from services.db.pool import open_pools
from services.rpc.call import Kind, Principal
from services.rpc.last_use import LastUse
from services.settings import Settings
from tests.factory import rows


async def test_the_last_use_of_a_credential_is_written_once_in_a_while(rig: Any, session: Any) -> None:
    (before,) = await rows(
        rig,
        """UPDATE sessions SET last_used_at = now() - interval '10 minutes' WHERE session_id = %s
        RETURNING last_used_at""",
        session.session_id,
    )
    async with open_pools(Settings(), rig.database_url) as pools:
        last_use = LastUse(pools.write)
        last_use.note(Principal(Kind.ANONYMOUS))
        for _ in range(3):
            last_use.note(Principal(Kind.SESSION, credential_id=session.session_id))
        await last_use.flush()
        await last_use.flush()
    (after,) = await rows(rig, "SELECT last_used_at FROM sessions WHERE session_id = %s", session.session_id)
    assert 590 < (after["last_used_at"] - before["last_used_at"]).total_seconds() < 660
