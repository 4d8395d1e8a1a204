"""What the database alone can take: bare binary COPY over two connections, everything encoded beforehand."""

import numpy as np

# The same definition as the product's table, taken from its catalog.
BLOCKS = """CREATE TABLE bench_copy (LIKE sample_blocks INCLUDING ALL);
    SELECT create_hypertable('bench_copy', 'placed_at', chunk_time_interval => interval '7 days',
        create_default_indexes => false)"""
# As lean as one row per sample can be and still say what a block says of a sample.
ROWS = """CREATE TABLE bench_copy (placed_at timestamptz NOT NULL, device_ns bigint NOT NULL,
        value double precision NOT NULL, channel_id int NOT NULL, session_id int NOT NULL);
    SELECT create_hypertable('bench_copy', 'placed_at', chunk_time_interval => interval '7 days',
        create_default_indexes => false);
    CREATE INDEX ON bench_copy (channel_id, placed_at DESC)"""
ROW_COLUMNS = "placed_at, device_ns, value, channel_id, session_id"
ROW = np.dtype(
    [("fields", ">i2")]
    + [
        field
        for name, kind in (
            ("placed_us", ">i8"),
            ("device_ns", ">i8"),
            ("value", ">f8"),
            ("channel_id", ">i4"),
            ("session_id", ">i4"),
        )
        for field in ((f"{name}_bytes", ">i4"), (name, kind))
    ]
)
