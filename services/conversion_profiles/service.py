"""ConversionProfileService."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from rigmesh.v1.conversion_profile_pb2 import ConversionProfile
from rigmesh.v1.conversion_profile_service_pb2 import (
    CreateConversionProfileRequest,
    GetConversionProfileRequest,
    ListConversionProfilesRequest,
    ListConversionProfilesResponse,
    PublishConversionProfileRequest,
)
from services.conversion_profiles import queries, rules
from services.db.page import open_page
from services.db.pool import Connection
from services.rpc.call import Call

MapProfile = Callable[[Connection, str, Collection[str], str, str], Awaitable[None]]


@dataclass(frozen=True)
class ConversionProfileService:
    """`map_profile(db, sensor_id, signals, conversion_profile_id, applied_by)` lets a version hold for channels."""

    map_profile: MapProfile

    async def CreateConversionProfile(self, request: CreateConversionProfileRequest, call: Call) -> ConversionProfile:
        project_id = await queries.lock_sensor(call.db, request.sensor_id)
        profile = await queries.insert_profile(call.db, request.sensor_id, request.conversion_profile)
        call.emit("conversion_profile", profile.conversion_profile_id, project_id=project_id, after=profile)
        return profile

    async def GetConversionProfile(self, request: GetConversionProfileRequest, call: Call) -> ConversionProfile:
        return await queries.select_profile(call.db, request.sensor_id, request.conversion_profile_id)

    async def ListConversionProfiles(
        self, request: ListConversionProfilesRequest, call: Call
    ) -> ListConversionProfilesResponse:
        page = open_page(request, call.key("page"))
        rows = await queries.select_profiles(call.db, request.sensor_id, page)
        profiles, next_page_token = page.cut(rows, lambda profile: profile.version)
        return ListConversionProfilesResponse(conversion_profiles=profiles, next_page_token=next_page_token)

    async def PublishConversionProfile(self, request: PublishConversionProfileRequest, call: Call) -> ConversionProfile:
        project_id = await queries.lock_sensor(call.db, request.sensor_id)
        before = await queries.select_profile(call.db, request.sensor_id, request.conversion_profile_id)
        replaced = await queries.select_active(call.db, before.sensor_id)
        if replaced is not None:
            await _move(call, project_id, replaced, "DEPRECATED")
        after = await _move(call, project_id, before, "ACTIVE")
        # What only the replaced version converts is mapped too: else that one would go on converting it.
        signals = rules.signals(after, replaced)
        await self.map_profile(call.db, after.sensor_id, signals, after.conversion_profile_id, call.principal.name)
        return after


async def _move(call: Call, project_id: str, before: ConversionProfile, target: str) -> ConversionProfile:
    transition = rules.CONVERSION_PROFILE.to(target)
    after = await queries.update_status(call.db, before.conversion_profile_id, transition)
    if after is None:
        raise rules.CONVERSION_PROFILE.illegal(ConversionProfile.Status.Name(before.status), target)
    call.emit(
        "conversion_profile",
        after.conversion_profile_id,
        project_id=project_id,
        before=before,
        after=after,
        type=transition.event or None,
    )
    return after
