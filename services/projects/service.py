"""ProjectService: projects and who may do what in them."""

from google.protobuf.empty_pb2 import Empty

from rigmesh.v1.error_reason_pb2 import LAST_OWNER
from rigmesh.v1.project_pb2 import Member, Project
from rigmesh.v1.project_service_pb2 import (
    AddMemberRequest,
    CreateProjectRequest,
    GetProjectRequest,
    ListMembersRequest,
    ListMembersResponse,
    ListProjectsRequest,
    ListProjectsResponse,
    RemoveMemberRequest,
    UpdateMemberRequest,
)
from services.db.mask import check_same_id, masked_fields
from services.db.page import open_page
from services.errors import FailedPrecondition, invalid_field, not_found
from services.projects import queries
from services.rpc.call import Call


async def CreateProject(request: CreateProjectRequest, call: Call) -> Project:
    wanted = request.project
    project = await queries.create_project(call.db, call.principal.user_id, wanted.name, wanted.description)
    call.emit("project", project.project_id, project_id=project.project_id, after=project)
    return project


async def GetProject(request: GetProjectRequest, call: Call) -> Project:
    project = await queries.get_project(call.db, request.project_id, call.principal.user_id)
    if project is None:
        raise not_found("project", request.project_id)
    return project


async def ListProjects(request: ListProjectsRequest, call: Call) -> ListProjectsResponse:
    page = open_page(request, call.key("page"))
    rows = await queries.list_projects(call.db, call.principal.user_id, page)
    projects, next_page_token = page.cut(rows, lambda row: row.project_id)
    return ListProjectsResponse(projects=projects, next_page_token=next_page_token)


async def ListMembers(request: ListMembersRequest, call: Call) -> ListMembersResponse:
    page = open_page(request, call.key("page"))
    rows = await queries.list_members(call.db, request.project_id, page)
    members, next_page_token = page.cut(rows, lambda row: [row.created_at.ToJsonString(), row.user_id])
    return ListMembersResponse(members=members, next_page_token=next_page_token)


async def AddMember(request: AddMemberRequest, call: Call) -> Member:
    user_id = await queries.find_user(call.db, request)
    if user_id is None:
        raise not_found("user", request.user_id or request.username or request.email)
    member = await queries.add_member(call.db, request.project_id, user_id, Member.Role.Name(request.role))
    call.emit("member", member.user_id, project_id=member.project_id, after=member)
    return member


async def UpdateMember(request: UpdateMemberRequest, call: Call) -> Member:
    check_same_id("member.project_id", request.project_id, request.member.project_id)
    check_same_id("member.user_id", request.user_id, request.member.user_id)
    masked_fields(request.member, request.update_mask, {"role"})
    role = request.member.role
    if role == Member.ROLE_UNSPECIFIED:
        raise invalid_field("member.role", "cannot be cleared")
    before = await _lock_member(call, request.project_id, request.user_id)
    if role != Member.OWNER:
        await _keep_an_owner(call, before)
    after = await queries.set_role(call.db, before, Member.Role.Name(role))
    call.emit("member", after.user_id, project_id=after.project_id, before=before, after=after)
    return after


async def RemoveMember(request: RemoveMemberRequest, call: Call) -> Empty:
    before = await _lock_member(call, request.project_id, request.user_id)
    await _keep_an_owner(call, before)
    await queries.remove_member(call.db, before)
    call.emit("member", before.user_id, project_id=before.project_id, before=before)
    return Empty()


async def _lock_member(call: Call, project_id: str, user_id: str) -> Member:
    member = await queries.lock_member(call.db, project_id, user_id)
    if member is None:
        raise not_found("member", user_id)
    return member


async def _keep_an_owner(call: Call, leaving: Member) -> None:
    if leaving.role == Member.OWNER and not await queries.has_other_owner(call.db, leaving):
        raise FailedPrecondition(LAST_OWNER, "a project keeps at least one owner")
