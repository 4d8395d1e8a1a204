from services.local.tuning import GIB, MIB, Machine, tuned


def test_small_and_large_machines_stay_within_bounds() -> None:
    """Memory and disk are used in proportion, never so far that a stop or the disk suffers."""
    small = tuned(Machine(memory_bytes=GIB // 4, cores=1, disk_free_bytes=GIB))
    large = tuned(Machine(memory_bytes=512 * GIB, cores=64, disk_free_bytes=4096 * GIB))
    assert (small["shared_buffers"], large["shared_buffers"]) == ("128MB", "1024MB")
    assert (small["max_wal_size"], large["max_wal_size"]) == ("512MB", "8192MB")


def test_durability_is_never_traded() -> None:
    """An ack follows COMMIT, so COMMIT has to mean the disk."""
    settings = tuned(Machine(memory_bytes=512 * MIB, cores=2, disk_free_bytes=GIB))
    assert {settings[name] for name in ("fsync", "full_page_writes", "synchronous_commit")} == {"on"}
