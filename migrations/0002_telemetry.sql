-- Lanes, sample blocks and what the ingest transaction keeps beside them.
SET LOCAL lock_timeout = '2s';

CREATE EXTENSION IF NOT EXISTS timescaledb;

-- A channel is one signal of one sensor. max_span_ns is the longest block: how far back a range query must look.
CREATE TABLE channels (
    channel_id  int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sensor_id   uuid NOT NULL REFERENCES sensors,
    signal      text NOT NULL,
    unit        text NOT NULL DEFAULT '',
    value_type  text CHECK (value_type IN ('DOUBLE', 'INTEGER')),
    period_ns   bigint NOT NULL DEFAULT 0,
    max_span_ns bigint NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (sensor_id, signal)
) WITH (fillfactor = 70);

-- Which profile version holds where on the time axis; of rows that overlap the newest wins, the others are its history.
CREATE TABLE channel_profiles (
    channel_profile_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel_id            int NOT NULL REFERENCES channels,
    conversion_profile_id uuid NOT NULL REFERENCES conversion_profiles,
    valid                 tstzrange NOT NULL CHECK (NOT isempty(valid)),
    applied_at            timestamptz NOT NULL DEFAULT now(),
    applied_by            text NOT NULL
);
CREATE INDEX channel_profiles_channel_id_idx ON channel_profiles (channel_id, channel_profile_id);

-- A lane numbers the batches of one producer, or of one upload, within one credential scope. `received` is what makes
-- delivery exactly once; `holder` counts the streams that opened it: only the last may write. `reused`: a number came with
-- other content. The fillfactor keeps the update of each commit on its page (HOT).
CREATE TABLE ingest_lanes (
    lane_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope        text NOT NULL CHECK (scope IN ('SENSOR', 'PROJECT')),
    scope_id     uuid NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('STREAM', 'UPLOAD')),
    producer     text NOT NULL,
    epoch        bigint NOT NULL CHECK (epoch > 0),
    holder       bigint NOT NULL DEFAULT 0,
    reused       boolean NOT NULL DEFAULT false,
    received     int8multirange NOT NULL DEFAULT '{}',
    fingerprints bytea NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (scope, scope_id, kind, producer, epoch)
) WITH (fillfactor = 30);
COMMENT ON COLUMN ingest_lanes.fingerprints IS 'CRC-32C of batch 1 and of the last 64: (seq int8, crc uint4) little-endian';

-- A clock is one boot of one producer: device times are comparable within it.
CREATE TABLE clocks (
    clock_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope    text NOT NULL,
    scope_id uuid NOT NULL,
    producer text NOT NULL,
    boot_id  text NOT NULL,
    kind     text NOT NULL CHECK (kind IN ('WALL', 'MONOTONIC')),
    UNIQUE (scope, scope_id, producer, boot_id, kind)
);

-- One row a series of a batch. Times of samples: start_ns + i · period_ns + residual_i on the device's clock, plus
-- offset_ns on the common axis. placed_at is the earliest of them there, rounded down to a microsecond.
-- Columns of fixed width first, so that rows carry no padding.
CREATE TABLE sample_blocks (
    placed_at          timestamptz NOT NULL,
    span_ns            bigint NOT NULL,
    start_ns           bigint NOT NULL,
    offset_ns          bigint NOT NULL,
    period_ns          bigint NOT NULL,
    lane_id            bigint NOT NULL,
    seq                bigint NOT NULL,
    commit_id          bigint NOT NULL,
    received_at        timestamptz NOT NULL,
    v_min              double precision,
    v_max              double precision,
    v_sum              double precision,
    v_count            int NOT NULL,
    n                  int NOT NULL,
    channel_id         int NOT NULL,
    clock_id           int NOT NULL,
    part               int NOT NULL,
    late               boolean NOT NULL,
    capture_session_id uuid,
    residuals_i4       int[] COMPRESSION lz4,
    residuals_i8       bigint[] COMPRESSION lz4,
    values_f8          double precision[] COMPRESSION lz4,
    values_i8          bigint[] COMPRESSION lz4
);
COMMENT ON COLUMN sample_blocks.part IS 'which series of its batch, from 0';
COMMENT ON COLUMN sample_blocks.v_count IS 'values that are not NaN: what v_min, v_max and v_sum are of';
SELECT create_hypertable('sample_blocks', 'placed_at', chunk_time_interval => interval '7 days',
                         create_default_indexes => false);
CREATE INDEX sample_blocks_channel_id_idx ON sample_blocks (channel_id, placed_at DESC);

-- Totals of a channel in a session (NULL: outside of any), so that summaries need no blocks.
CREATE TABLE session_channels (
    channel_id         int NOT NULL REFERENCES channels,
    capture_session_id uuid,
    n                  bigint NOT NULL,
    late               bigint NOT NULL,
    first_at           timestamptz NOT NULL,
    last_at            timestamptz NOT NULL,
    v_min              double precision,
    v_max              double precision,
    last_received_at   timestamptz NOT NULL,
    last_placed_at     timestamptz NOT NULL,
    UNIQUE NULLS NOT DISTINCT (channel_id, capture_session_id)
) WITH (fillfactor = 50);
CREATE INDEX session_channels_capture_session_id_idx ON session_channels (capture_session_id);
COMMENT ON COLUMN session_channels.last_placed_at IS 'placed_at of the block that was received last';

-- Commits that are not numbered yet: a short queue. The sealer moves what it sees into ingest_commit_seals.
CREATE TABLE ingest_commits (
    commit_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel_ids  int[] NOT NULL,
    placed_from  timestamptz NOT NULL,
    placed_until timestamptz NOT NULL
);
CREATE TABLE ingest_commit_seals (
    position     bigint PRIMARY KEY,
    commit_id    bigint NOT NULL,
    channel_ids  int[] NOT NULL,
    placed_from  timestamptz NOT NULL,
    placed_until timestamptz NOT NULL,
    sealed_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What could not be stored, with its bytes, so that it can be repaired.
CREATE TABLE quarantine (
    quarantine_id      uuid PRIMARY KEY,
    lane_id            bigint NOT NULL REFERENCES ingest_lanes,
    seq                bigint NOT NULL,
    part               int,
    alias              bigint,
    sensor_id          uuid,
    signal             text NOT NULL DEFAULT '',
    unit               text NOT NULL DEFAULT '',
    capture_session_id uuid,
    clock_id           int NOT NULL REFERENCES clocks,
    device_sent_ns     bigint,
    received_at        timestamptz NOT NULL,
    samples            int NOT NULL,
    reason             text NOT NULL,
    message            text NOT NULL,
    payload            bytea NOT NULL,
    UNIQUE NULLS NOT DISTINCT (lane_id, seq, part, reason)
);
COMMENT ON COLUMN quarantine.part IS 'which series of its batch, from 0, payload is; NULL: payload is the whole Batch';

-- Samples that a device says it lost.
CREATE TABLE channel_losses (
    channel_id         int NOT NULL REFERENCES channels,
    clock_id           int NOT NULL REFERENCES clocks,
    from_ns            bigint NOT NULL,
    to_ns              bigint NOT NULL,
    count              bigint NOT NULL,
    reason             text NOT NULL,
    capture_session_id uuid,
    received_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (channel_id, clock_id, from_ns, to_ns)
);
