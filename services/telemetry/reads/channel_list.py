"""ListChannels."""

from psycopg.rows import class_row

from rigmesh.v1.telemetry_pb2 import Channel
from rigmesh.v1.telemetry_service_pb2 import ListChannelsRequest
from services.db.page import Page
from services.db.pool import Connection


async def list_channels(db: Connection, user_id: str, request: ListChannelsRequest, page: Page) -> list[Channel]:
    """Channels by name, with totals over the samples that the caller may see."""
    async with db.cursor(row_factory=class_row(Channel)) as cursor:
        await cursor.execute(
            """SELECT c.sensor_id || '/' || c.signal AS channel, c.sensor_id, n.name AS sensor_name, c.signal, c.unit,
                c.value_type, c.period_ns, coalesce(t.samples, 0) AS samples, t.first_at, t.last_at
            FROM channels c JOIN sensors n USING (sensor_id) LEFT JOIN LATERAL (
                SELECT sum(t.n)::bigint AS samples, min(t.first_at) AS first_at, max(t.last_at) AS last_at
                FROM session_channels t LEFT JOIN capture_sessions s USING (capture_session_id)
                JOIN project_members m ON m.user_id = %(user)s
                    AND m.project_id = coalesce(s.project_id, n.primary_project_id)
                WHERE t.channel_id = c.channel_id AND (%(run)s::uuid IS NULL OR s.run_id = %(run)s)
                    AND (%(session)s::uuid IS NULL OR s.capture_session_id = %(session)s)
            ) t ON true
            WHERE (c.sensor_id || '/' || c.signal > %(after)s OR %(after)s::text IS NULL)
                AND (%(sensor)s::uuid IS NULL OR c.sensor_id = %(sensor)s)
                AND (t.samples IS NOT NULL OR (%(run)s::uuid IS NULL AND %(session)s::uuid IS NULL))
                AND EXISTS (SELECT FROM sensor_projects p JOIN project_members m USING (project_id)
                            WHERE p.sensor_id = c.sensor_id AND m.user_id = %(user)s
                                AND (%(project)s::uuid IS NULL OR p.project_id = %(project)s))
            ORDER BY channel LIMIT %(limit)s""",
            {
                "user": user_id,
                "run": request.run_id or None,
                "session": request.capture_session_id or None,
                "sensor": request.sensor_id or None,
                "project": request.project_id or None,
                "after": page.after,
                "limit": page.limit,
            },
        )
        return await cursor.fetchall()
