"""The client of Rigmesh: streams samples in, reads them back. Start with `connect`."""

from rigmesh.v1.telemetry_ingest_pb2 import Clock, Reject
from rigmesh.v1.telemetry_pb2 import PHYSICAL, RAW
from rigmesh_client.channels import Channel
from rigmesh_client.connection import Connection, connect
from rigmesh_client.errors import (
    AnswerBroken,
    DataMissing,
    IncompleteAnswer,
    NotConnected,
    RigmeshError,
    StreamRefused,
)
from rigmesh_client.live import live
from rigmesh_client.query import Points, latest, query, read, series
from rigmesh_client.samples import Samples, Selection
from rigmesh_client.stream import SensorStream

__all__ = [
    "PHYSICAL",
    "RAW",
    "AnswerBroken",
    "Channel",
    "Clock",
    "Connection",
    "DataMissing",
    "IncompleteAnswer",
    "NotConnected",
    "Points",
    "Reject",
    "RigmeshError",
    "Samples",
    "Selection",
    "SensorStream",
    "StreamRefused",
    "connect",
    "latest",
    "live",
    "query",
    "read",
    "series",
]
