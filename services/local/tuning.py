"""PostgreSQL settings for ingest on a small machine, from its memory, cores and disk."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Machine:
    """What there is to use."""

    memory_bytes: int
    cores: int
    disk_free_bytes: int


def this_machine(folder: Path) -> Machine:
    """Memory within a container's limit, cores that this process may use, disk below `folder`."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in map(Path, CGROUP_LIMITS):
        if file.exists() and (limit := file.read_text().strip()).isdigit():
            memory = min(memory, int(limit))
    return Machine(memory, len(os.sched_getaffinity(0)), shutil.disk_usage(folder).free)


def tuned(machine: Machine) -> dict[str, str]:
    """Settings by name. Durability stays on: an ack is sent after COMMIT, so COMMIT must mean the disk."""
    # More than 1 GiB of buffers is more to write at the last checkpoint than a stop within 10 s allows.
    shared_buffers = _clamp(machine.memory_bytes // 4, 128 * MIB, GIB)
    max_wal = _clamp(machine.disk_free_bytes // 10, GIB // 2, 8 * GIB)
    return {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "shared_buffers": _megabytes(shared_buffers),
        "effective_cache_size": _megabytes(machine.memory_bytes // 2),
        "maintenance_work_mem": _megabytes(_clamp(machine.memory_bytes // 16, 64 * MIB, GIB // 2)),
        "work_mem": "16MB",
        "wal_buffers": "32MB",
        "wal_compression": "lz4",
        "max_wal_size": _megabytes(max_wal),
        "min_wal_size": _megabytes(min(max_wal // 4, GIB)),
        "checkpoint_timeout": "15min",
        "checkpoint_completion_target": "0.9",
        "effective_io_concurrency": "200",
        "random_page_cost": "1.1",
        "default_toast_compression": "lz4",
        "jit": "off",
        "max_connections": "100",
        "max_locks_per_transaction": "256",  # a query over years touches every chunk
        "max_worker_processes": str(16 + machine.cores),
        "max_parallel_workers": str(machine.cores),
        "max_parallel_workers_per_gather": str(machine.cores // 2),
        "timescaledb.max_background_workers": "8",
        "timescaledb.telemetry_level": "off",
    }


def _clamp(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes // MIB}MB"
