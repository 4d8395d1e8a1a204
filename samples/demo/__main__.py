"""`./scripts/demo`: real recordings into Rigmesh and out again, every value compared."""

import argparse
import asyncio
import sys

import grpc
from pydantic import ValidationError

from rigmesh_client import RigmeshError
from samples.demo.demonstration import DemoError, demonstrate
from samples.demo.readback import ReadError
from samples.demo.server import ServerError
from services.local.folder import CannotStartError
from services.settings import Settings


def main() -> int:
    """Exit code 0: every value came back identical."""
    parser = argparse.ArgumentParser(prog="demo", description="Streams real recordings into Rigmesh and compares them.")
    parser.add_argument("--once", action="store_true", help="stop everything at the end instead of staying up")
    once = parser.parse_args().once
    try:
        asyncio.run(demonstrate(Settings(), once=once))
    except KeyboardInterrupt:
        return 130
    except grpc.aio.AioRpcError as error:
        return _fail(f"{error.code().name}: {error.details()}")
    except ValidationError as error:
        return _fail("\n".join(f"RIGMESH_{one['loc'][0]}".upper() + f": {one['msg']}" for one in error.errors()))
    except (CannotStartError, DemoError, OSError, ReadError, RigmeshError, ServerError) as error:
        return _fail(str(error))
    return 0


def _fail(text: str) -> int:
    sys.stderr.write(f"demo: FAILED: {text}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
