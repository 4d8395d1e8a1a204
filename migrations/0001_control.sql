-- Users, projects and the experiment model. Columns are named as in the contract; ids are UUID v7, made by the server.
SET LOCAL lock_timeout = '2s';

CREATE TABLE users (
    user_id       uuid PRIMARY KEY,
    username      text NOT NULL,
    email         text,
    display_name  text NOT NULL DEFAULT '',
    is_admin      boolean NOT NULL DEFAULT false,
    password_hash text NOT NULL,
    disabled_at   timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_username_key ON users (lower(username));
CREATE UNIQUE INDEX users_email_key ON users (lower(email));

-- Failed logins, for throttling; rows older than the window are deleted by the login that looks at them.
CREATE TABLE login_failures (
    username  text NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX login_failures_username_idx ON login_failures (username, failed_at);

-- Secrets have 256 random bits, so a plain SHA-256 keeps them.
CREATE TABLE sessions (
    session_id   uuid PRIMARY KEY,
    secret_hash  bytea NOT NULL UNIQUE,
    user_id      uuid NOT NULL REFERENCES users,
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    ended_at     timestamptz
);
CREATE INDEX sessions_user_id_idx ON sessions (user_id);

CREATE TABLE projects (
    project_id  uuid PRIMARY KEY,
    name        text NOT NULL,
    description text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE project_members (
    project_id uuid NOT NULL REFERENCES projects,
    user_id    uuid NOT NULL REFERENCES users,
    role       text NOT NULL CHECK (role IN ('VIEWER', 'EDITOR', 'OWNER')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, user_id)
);
CREATE INDEX project_members_user_id_idx ON project_members (user_id);

CREATE TABLE api_tokens (
    api_token_id uuid PRIMARY KEY,
    public_id    text NOT NULL UNIQUE,
    secret_hash  bytea NOT NULL,
    user_id      uuid NOT NULL REFERENCES users,
    name         text NOT NULL,
    scopes       text[] NOT NULL CHECK (scopes <@ ARRAY['READ', 'WRITE', 'INGEST', 'ADMIN'] AND cardinality(scopes) > 0),
    project_id   uuid REFERENCES projects,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz,
    CHECK ((project_id IS NOT NULL) = ('INGEST' = ANY (scopes)))
);
CREATE INDEX api_tokens_user_id_idx ON api_tokens (user_id, api_token_id);

CREATE TABLE experiments (
    experiment_id uuid PRIMARY KEY,
    project_id    uuid NOT NULL REFERENCES projects,
    name          text NOT NULL,
    description   text NOT NULL DEFAULT '',
    status        text NOT NULL DEFAULT 'DRAFT'
                  CHECK (status IN ('DRAFT', 'RUNNING', 'FINISHED', 'FAILED', 'ARCHIVED')),
    tags          text[] NOT NULL DEFAULT '{}',
    metadata      jsonb NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (experiment_id, project_id)
);
CREATE INDEX experiments_project_id_idx ON experiments (project_id, experiment_id);

CREATE TABLE runs (
    run_id        uuid PRIMARY KEY,
    experiment_id uuid NOT NULL,
    project_id    uuid NOT NULL,
    name          text NOT NULL,
    description   text NOT NULL DEFAULT '',
    status        text NOT NULL DEFAULT 'DRAFT'
                  CHECK (status IN ('DRAFT', 'RUNNING', 'SUCCEEDED', 'FAILED', 'ARCHIVED')),
    tags          text[] NOT NULL DEFAULT '{}',
    params        jsonb NOT NULL DEFAULT '{}',
    metadata      jsonb NOT NULL DEFAULT '{}',
    git_sha       text NOT NULL DEFAULT '',
    started_at    timestamptz,
    ended_at      timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (run_id, project_id),
    FOREIGN KEY (experiment_id, project_id) REFERENCES experiments (experiment_id, project_id),
    CHECK ((started_at IS NOT NULL) OR status IN ('DRAFT', 'ARCHIVED')),
    CHECK ((ended_at IS NOT NULL) = (status IN ('SUCCEEDED', 'FAILED')) OR status = 'ARCHIVED')
);
CREATE INDEX runs_experiment_id_idx ON runs (experiment_id, run_id);
CREATE INDEX runs_project_id_idx ON runs (project_id, run_id);

CREATE TABLE sensors (
    sensor_id          uuid PRIMARY KEY,
    primary_project_id uuid NOT NULL REFERENCES projects,
    name               text NOT NULL,
    description        text NOT NULL DEFAULT '',
    labels             jsonb NOT NULL DEFAULT '{}',
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now()
);

-- The primary project is among them.
CREATE TABLE sensor_projects (
    sensor_id  uuid NOT NULL REFERENCES sensors,
    project_id uuid NOT NULL REFERENCES projects,
    position   int NOT NULL,
    added_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sensor_id, project_id)
);
CREATE INDEX sensor_projects_project_id_idx ON sensor_projects (project_id, sensor_id);

CREATE TABLE sensor_tokens (
    sensor_token_id uuid PRIMARY KEY,
    public_id       text NOT NULL UNIQUE,
    secret_hash     bytea NOT NULL,
    sensor_id       uuid NOT NULL REFERENCES sensors,
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz,
    last_used_at    timestamptz,
    revoked_at      timestamptz
);
CREATE INDEX sensor_tokens_sensor_id_idx ON sensor_tokens (sensor_id);

CREATE TABLE run_sensors (
    run_id      uuid NOT NULL REFERENCES runs,
    sensor_id   uuid NOT NULL REFERENCES sensors,
    attached_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, sensor_id)
);
CREATE INDEX run_sensors_sensor_id_idx ON run_sensors (sensor_id);

CREATE TABLE conversion_profiles (
    conversion_profile_id uuid PRIMARY KEY,
    sensor_id             uuid NOT NULL REFERENCES sensors,
    version               int NOT NULL,
    name                  text NOT NULL DEFAULT '',
    status                text NOT NULL DEFAULT 'DRAFT'
                          CHECK (status IN ('DRAFT', 'SCHEDULED', 'ACTIVE', 'DEPRECATED')),
    conversions           jsonb NOT NULL,
    created_at            timestamptz NOT NULL DEFAULT now(),
    published_at          timestamptz,
    UNIQUE (sensor_id, version),
    CHECK ((published_at IS NOT NULL) = (status IN ('ACTIVE', 'DEPRECATED')))
);
CREATE UNIQUE INDEX conversion_profiles_active_key ON conversion_profiles (sensor_id) WHERE status = 'ACTIVE';

CREATE TABLE capture_sessions (
    capture_session_id uuid PRIMARY KEY,
    run_id             uuid NOT NULL,
    project_id         uuid NOT NULL,
    ordinal_number     int NOT NULL,
    name               text NOT NULL DEFAULT '',
    notes              text NOT NULL DEFAULT '',
    status             text NOT NULL DEFAULT 'DRAFT'
                       CHECK (status IN ('DRAFT', 'RUNNING', 'SUCCEEDED', 'FAILED', 'BACKFILLING', 'ARCHIVED')),
    data_revision      bigint NOT NULL DEFAULT 0,
    started_at         timestamptz,
    ended_at           timestamptz,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    UNIQUE (run_id, ordinal_number),
    FOREIGN KEY (run_id, project_id) REFERENCES runs (run_id, project_id),
    CHECK ((started_at IS NOT NULL) OR status IN ('DRAFT', 'ARCHIVED')),
    CHECK ((ended_at IS NOT NULL) = (status IN ('SUCCEEDED', 'FAILED', 'BACKFILLING')) OR status = 'ARCHIVED')
);

-- Profile versions pinned by a session, at most one a sensor.
CREATE TABLE session_profiles (
    capture_session_id    uuid NOT NULL REFERENCES capture_sessions,
    sensor_id             uuid NOT NULL REFERENCES sensors,
    conversion_profile_id uuid NOT NULL REFERENCES conversion_profiles,
    PRIMARY KEY (capture_session_id, sensor_id)
);

-- What happened, written in the transaction of the change itself. The audit trail and all who watch read it.
CREATE TABLE events (
    event_id    uuid PRIMARY KEY,
    project_id  uuid,
    type        text NOT NULL,
    resource    text NOT NULL,
    resource_id text NOT NULL,
    actor       text NOT NULL,
    request_id  text NOT NULL,
    before      jsonb,
    after       jsonb,
    occurred_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX events_project_id_idx ON events (project_id, event_id);

-- Attempts that rights did not allow, written after the call's own transaction is rolled back.
CREATE TABLE denied_attempts (
    denied_attempt_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    actor             text NOT NULL,
    method            text NOT NULL,
    reason            text NOT NULL,
    resource_id       text NOT NULL,
    request_id        text NOT NULL,
    occurred_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE ON events FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER denied_attempts_append_only BEFORE UPDATE OR DELETE ON denied_attempts
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER denied_attempts_no_truncate BEFORE TRUNCATE ON denied_attempts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- ALWAYS: a plain trigger is skipped under session_replication_role = replica.
ALTER TABLE events ENABLE ALWAYS TRIGGER events_append_only;
ALTER TABLE events ENABLE ALWAYS TRIGGER events_no_truncate;
ALTER TABLE denied_attempts ENABLE ALWAYS TRIGGER denied_attempts_append_only;
ALTER TABLE denied_attempts ENABLE ALWAYS TRIGGER denied_attempts_no_truncate;

-- Answers of calls with an Idempotency-Key, kept 48 h; encrypted where they carry a secret.
CREATE TABLE idempotency_keys (
    principal    text NOT NULL,
    method       text NOT NULL,
    key          text NOT NULL,
    request_hash bytea NOT NULL,
    response     bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (principal, method, key)
);
CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at);

-- Called after migrations when the servers use another role than the owner.
CREATE FUNCTION grant_application(application name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', application);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO %I', application);
    EXECUTE format('GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO %I', application);
    EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON events, denied_attempts FROM %I', application);
    EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON schema_migrations FROM %I', application);
END $$;
