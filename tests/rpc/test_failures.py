"""What a caller sees of a handler that fails: through pytest-grpc, by the synchronous client."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any, TypeVar

import grpc
import psycopg
import pytest
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from uuid_utils import uuid7

from rigmesh.v1 import project_service_pb2
from rigmesh.v1.project_pb2 import Project
from rigmesh.v1.project_service_pb2 import CreateProjectRequest, GetProjectRequest, ListProjectsRequest
from rigmesh.v1.project_service_pb2_grpc import ProjectServiceStub
from services.db.pool import open_pools
from services.projects import queries
from services.projects import service as projects
from services.rpc.admission import Admission
from services.rpc.call import Call
from services.rpc.pipeline import Pipeline
from services.settings import Settings

SERVICE = project_service_pb2.DESCRIPTOR.services_by_name["ProjectService"]
T = TypeVar("T")


async def tell_nobody(request: CreateProjectRequest, call: Call) -> Project:
    """Changes something without an event."""
    return await queries.create_project(call.db, call.principal.user_id, request.project.name, "")


async def write_in_a_read(request: GetProjectRequest, call: Call) -> Project:
    await queries.create_project(call.db, call.principal.user_id, request.project_id, "")
    return Project()


async def fall_over(request: ListProjectsRequest, call: Call) -> None:
    raise ZeroDivisionError("secret detail")


FAULTY = SimpleNamespace(
    **vars(projects) | {"CreateProject": tell_nobody, "GetProject": write_in_a_read, "ListProjects": fall_over}
)


class LoopServer:
    """What pytest-grpc asks of a server, over one of asyncio in a thread of its own."""

    def __init__(self, database_url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._stack = contextlib.AsyncExitStack()
        self._server = self._wait(self._open(database_url))

    def _wait(self, awaitable: Awaitable[T]) -> T:
        async def waited() -> T:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(waited(), self._loop).result(timeout=30)

    async def _open(self, database_url: str) -> grpc.aio.Server:
        pools = await self._stack.enter_async_context(open_pools(Settings(), database_url))
        self.pipeline = Pipeline(Admission(pools, b"k" * 32, lambda principal: None))
        return grpc.aio.server()

    def add(self, slice_: object) -> None:
        self._server.add_generic_rpc_handlers([self.pipeline.handlers(SERVICE, slice_)])

    def add_insecure_port(self, address: str) -> int:
        return self._server.add_insecure_port(address)

    def start(self) -> None:
        self._wait(self._server.start())

    def stop(self, grace: float | None) -> None:
        self._wait(self._server.stop(grace))
        self._wait(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def grpc_addr(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"unix:{tmp_path_factory.mktemp('grpc')}/s"


@pytest.fixture(scope="module")
def _grpc_server(rig: Any) -> LoopServer:
    return LoopServer(rig.database_url)


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Callable[[object, LoopServer], None]:
    return lambda slice_, server: server.add(slice_)


@pytest.fixture(scope="module")
def grpc_servicer() -> object:
    return FAULTY


@pytest.fixture(scope="module")
def grpc_stub_cls() -> type[ProjectServiceStub]:
    return ProjectServiceStub


@contextlib.contextmanager
def internal_error() -> Iterator[None]:
    with pytest.raises(grpc.RpcError) as caught:
        yield
    status = rpc_status.from_call(caught.value)
    assert status.code == Code.INTERNAL
    assert status.message == "an internal error; the request id finds it in the log"
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == "INTERNAL"
    assert not info.metadata


def rows_named(rig: Any, name: str) -> int:
    with psycopg.connect(rig.database_url) as db:
        return db.execute("SELECT 1 FROM projects WHERE name = %s", [name]).rowcount


def test_what_nobody_foresaw_shows_nothing_of_the_inside(lab: Any, grpc_stub: Any) -> None:
    with internal_error():
        grpc_stub.ListProjects(ListProjectsRequest(), metadata=(lab.owner.metadata,))


def test_a_change_without_an_event_does_not_happen(rig: Any, lab: Any, grpc_stub: Any) -> None:
    name = f"untold {uuid7()}"
    with internal_error():
        grpc_stub.CreateProject(CreateProjectRequest(project=Project(name=name)), metadata=(lab.owner.metadata,))
    assert rows_named(rig, name) == 0


def test_a_read_cannot_write(rig: Any, lab: Any, grpc_stub: Any) -> None:
    with internal_error():
        grpc_stub.GetProject(GetProjectRequest(project_id=lab.project_id), metadata=(lab.owner.metadata,))
    assert rows_named(rig, lab.project_id) == 0
