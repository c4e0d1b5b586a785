-- The tables and views of the journal, in SQL that both SQLite (3.35 or newer) and PostgreSQL (13 or newer) accept.
-- Migrations only go forward: a schema change is a new numbered section, and a released section never changes.

-- migration: 1

-- One row per start of a worker. IDs are never reused.
CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
);

-- The current state of each execution, updated in the transaction that appends its events.
CREATE TABLE executions (
    id TEXT PRIMARY KEY,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    policy TEXT NOT NULL,
    strategy TEXT NOT NULL,
    from_version TEXT NOT NULL,
    to_version TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    state TEXT NOT NULL,
    outcome TEXT,
    reason TEXT NOT NULL,
    seq INTEGER NOT NULL,
    onset_at TIMESTAMPTZ,
    firing_at TIMESTAMPTZ,
    accepted_at TIMESTAMPTZ NOT NULL,
    acted_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    duration_seconds DOUBLE PRECISION,
    changed BOOLEAN NOT NULL,
    plan_hash TEXT,
    worker TEXT,
    resumptions INTEGER NOT NULL DEFAULT 0,
    stop_requested_by TEXT,
    stop_reason TEXT
);
-- At most one live or stuck rollback per service and environment, across all replicas.
CREATE UNIQUE INDEX executions_one_live ON executions (service, environment) WHERE state <> 'closed';
CREATE INDEX executions_of_service ON executions (service, environment, accepted_at);
CREATE INDEX executions_recent ON executions (accepted_at);

-- Every service of a rollback, including the only one. The index enforces the limit for the other services as well.
CREATE TABLE parts (
    execution TEXT NOT NULL REFERENCES executions (id),
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    strategy TEXT NOT NULL,
    from_version TEXT NOT NULL,
    to_version TEXT NOT NULL,
    accepted_at TIMESTAMPTZ NOT NULL,
    live BOOLEAN NOT NULL,
    PRIMARY KEY (execution, service)
);
CREATE UNIQUE INDEX parts_one_live ON parts (service, environment) WHERE live;
CREATE INDEX parts_of_service ON parts (service, environment, accepted_at);

-- The alerts that opened a rollback. A repeated alert matches its row here and opens no second rollback. A second bad
-- deployment under an alert that never resolved has another `deployed_at`, and is decided again.
CREATE TABLE opening_alerts (
    policy TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    starts_at TIMESTAMPTZ NOT NULL,
    deployed_at TIMESTAMPTZ NOT NULL,
    execution TEXT NOT NULL REFERENCES executions (id),
    alertname TEXT NOT NULL,
    labels TEXT NOT NULL,
    summary TEXT NOT NULL,
    generator_url TEXT NOT NULL,
    released BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (execution, fingerprint, starts_at)
);
-- A rollback that a guard cancelled before its first change releases its alerts: they may open another one.
CREATE UNIQUE INDEX opening_alerts_once
    ON opening_alerts (policy, service, environment, fingerprint, starts_at, deployed_at) WHERE NOT released;

-- Append-only. The primary key is the fence: of two workers, the second one fails to append.
CREATE TABLE events (
    execution TEXT NOT NULL REFERENCES executions (id),
    seq INTEGER NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    type TEXT NOT NULL,
    state TEXT NOT NULL,
    step INTEGER,
    title TEXT,
    note TEXT,
    body TEXT NOT NULL,
    PRIMARY KEY (execution, seq)
);
CREATE INDEX events_recent ON events (at);

-- Every decision with its reason. The same result by the same guard on the same incident increments `times`.
CREATE TABLE decisions (
    id TEXT PRIMARY KEY,
    incident TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    last_at TIMESTAMPTZ NOT NULL,
    times INTEGER NOT NULL,
    action TEXT NOT NULL, -- roll_back, or read: only logs are collected
    policy TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    result TEXT NOT NULL,
    guard TEXT NOT NULL,
    reason TEXT NOT NULL,
    execution TEXT,
    forced BOOLEAN NOT NULL, -- requested by a person; does not count as a service in trouble
    needs_human BOOLEAN NOT NULL, -- time alone does not lift the denial, and the trouble was visible
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX decisions_once ON decisions (incident, result, guard);
CREATE INDEX decisions_recent ON decisions (last_at);
CREATE INDEX decisions_of_service ON decisions (service, environment, last_at);
CREATE INDEX decisions_in_environment ON decisions (environment, at);

-- Start times of alerts that arrive without `startsAt`. Deleted one day after the alert ended.
CREATE TABLE undated_alerts (
    fingerprint TEXT PRIMARY KEY,
    starts_at TIMESTAMPTZ NOT NULL,
    ends_at TIMESTAMPTZ NOT NULL
);

-- Switches that an operator turns on. The only one is the kill switch.
CREATE TABLE switches (
    name TEXT PRIMARY KEY,
    set_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL
);

-- When a periodic signal arrived last. The only one is the watchdog alert.
CREATE TABLE heartbeats (
    name TEXT PRIMARY KEY,
    at TIMESTAMPTZ NOT NULL
);

-- Collected logs and context: under the ID of the rollback, or of the decision to collect logs only.
CREATE TABLE evidence (
    id TEXT PRIMARY KEY,
    execution TEXT REFERENCES executions (id),
    policy TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    deployment_id TEXT NOT NULL,
    state TEXT NOT NULL, -- requested, kept, failed (see `problem`) or deleted
    requested_at TIMESTAMPTZ NOT NULL,
    alerts TEXT NOT NULL,
    worker TEXT,
    tries INTEGER NOT NULL DEFAULT 0,
    kept_at TIMESTAMPTZ,
    location TEXT NOT NULL DEFAULT '',
    files INTEGER NOT NULL DEFAULT 0,
    missing INTEGER NOT NULL DEFAULT 0,
    bytes BIGINT NOT NULL DEFAULT 0,
    problem TEXT NOT NULL DEFAULT '',
    manifest TEXT
);
CREATE INDEX evidence_of_policy ON evidence (policy, service, environment, requested_at);
CREATE INDEX evidence_requested ON evidence (requested_at) WHERE state = 'requested';

-- The alerts for which logs only were collected. A repeated alert matches its row here and collects nothing again.
CREATE TABLE evidence_alerts (
    policy TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    starts_at TIMESTAMPTZ NOT NULL,
    evidence TEXT NOT NULL REFERENCES evidence (id),
    PRIMARY KEY (policy, service, environment, fingerprint, starts_at)
);

-- Append-only. `at` is the order in which the database recorded them; `reported_at` is the reporter's own time.
CREATE TABLE recorded_deployments (
    id TEXT PRIMARY KEY,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    version TEXT NOT NULL,
    artifact TEXT NOT NULL,
    provenance TEXT NOT NULL, -- the URL of the pipeline run that built it
    at TIMESTAMPTZ NOT NULL,
    reported_at TIMESTAMPTZ,
    recorded_by TEXT NOT NULL,
    rolled_back_by TEXT
);
CREATE INDEX recorded_deployments_recent ON recorded_deployments (at, id);
CREATE INDEX recorded_deployments_of_service ON recorded_deployments (service, environment, at, id);
CREATE INDEX recorded_deployments_in ON recorded_deployments (environment, at, id);

-- Append-only. A version reached a platform, with the artifact that it has there.
CREATE TABLE artifacts (
    id TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    platform TEXT NOT NULL,
    version TEXT NOT NULL,
    artifact TEXT NOT NULL,
    provenance TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    reported_at TIMESTAMPTZ,
    recorded_by TEXT NOT NULL,
    rolled_back_by TEXT,
    PRIMARY KEY (service, environment, platform, id)
);
CREATE INDEX artifacts_recent ON artifacts (service, environment, platform, at, id);
CREATE INDEX artifacts_of_version ON artifacts (service, environment, version, platform, at, id);

-- The latest deployment of every service (platform '') and of every platform that was reported.
CREATE TABLE running (
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    platform TEXT NOT NULL,
    id TEXT NOT NULL,
    version TEXT NOT NULL,
    artifact TEXT NOT NULL,
    provenance TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    recorded_by TEXT NOT NULL,
    rolled_back_by TEXT,
    status TEXT NOT NULL,
    PRIMARY KEY (service, environment, platform)
);
CREATE INDEX running_candidates ON running (service, environment) WHERE status = 'candidate' AND platform = '';

-- The current status of each version: the last row of `marks`.
CREATE TABLE versions (
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    version TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    status_at TIMESTAMPTZ NOT NULL,
    artifact TEXT NOT NULL,
    provenance TEXT NOT NULL,
    no_rollback TEXT NOT NULL DEFAULT '', -- why no rollback may go past it; empty: it may
    deployed_at TIMESTAMPTZ, -- the last time
    revision INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (service, environment, version)
);
CREATE INDEX versions_good ON versions (service, environment, deployed_at) WHERE status = 'good';
CREATE INDEX versions_protected ON versions (service, environment, deployed_at) WHERE no_rollback <> '';

-- Append-only. Every status that a version was given, when and by whom.
CREATE TABLE marks (
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    version TEXT NOT NULL,
    revision INTEGER NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    marked_by TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    no_rollback TEXT NOT NULL,
    PRIMARY KEY (service, environment, version, revision)
);

-- The number of versions per status.
CREATE TABLE version_counts (
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    status TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (service, environment, status)
);

-- The versions of another service that a version works with, as `>=2.1`: the last row of `requirement_changes`.
CREATE TABLE requirements (
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    version TEXT NOT NULL,
    needs TEXT NOT NULL,
    versions TEXT NOT NULL,
    revision INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (service, environment, version, needs)
);
CREATE INDEX requirements_on ON requirements (environment, needs);

-- Append-only.
CREATE TABLE requirement_changes (
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    version TEXT NOT NULL,
    needs TEXT NOT NULL,
    revision INTEGER NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    reported_by TEXT NOT NULL,
    versions TEXT NOT NULL,
    PRIMARY KEY (service, environment, version, needs, revision)
);

-- The rules that the apps of a platform read: the last row of `client_rule_changes`.
CREATE TABLE client_rules (
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    platform TEXT NOT NULL,
    revision INTEGER NOT NULL,
    min_version TEXT NOT NULL,
    blocked_versions TEXT NOT NULL,
    flags TEXT NOT NULL,
    PRIMARY KEY (service, environment, platform)
);

-- Append-only. Each row has all rules that applied from then on.
CREATE TABLE client_rule_changes (
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    platform TEXT NOT NULL,
    revision INTEGER NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    changed_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    min_version TEXT NOT NULL,
    blocked_versions TEXT NOT NULL,
    flags TEXT NOT NULL,
    PRIMARY KEY (service, environment, platform, revision)
);

-- Notifications that are not routed yet. Written in the transaction of the event or decision; deleted when routed.
CREATE TABLE outbox (
    subject TEXT NOT NULL,
    seq INTEGER NOT NULL,
    stage TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (subject, seq)
);

-- All messages of one subject to one channel: its reference there, and the next try. One replica at a time delivers a
-- thread, so that its messages stay in order.
CREATE TABLE threads (
    subject TEXT NOT NULL,
    channel TEXT NOT NULL,
    reference TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    error_at TIMESTAMPTZ,
    due_at TIMESTAMPTZ NOT NULL,
    claimed_by TEXT,
    claim_ends_at TIMESTAMPTZ,
    PRIMARY KEY (subject, channel)
);
CREATE TABLE messages (
    subject TEXT NOT NULL,
    channel TEXT NOT NULL,
    occasion TEXT NOT NULL,
    seq INTEGER NOT NULL,
    stage TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    state TEXT NOT NULL, -- pending, delivered, superseded by a later message, or given_up
    state_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (subject, channel, occasion)
);
CREATE INDEX messages_pending ON messages (channel, at) WHERE state = 'pending';
CREATE INDEX messages_given_up ON messages (channel, state_at) WHERE state = 'given_up';

-- The documented views (docs/reference/views.md). Releases only add columns.
CREATE VIEW rollback_history AS
    SELECT id, service, environment, policy, strategy, from_version, to_version, requested_by, state, outcome, reason,
           onset_at, firing_at, accepted_at, acted_at, ended_at, duration_seconds, changed
    FROM executions;
CREATE VIEW rollback_parts AS
    SELECT p.execution, p.service, p.environment, p.strategy, p.from_version, p.to_version, x.state, x.outcome
    FROM parts AS p JOIN executions AS x ON x.id = p.execution;
CREATE VIEW rollback_steps AS
    SELECT began.execution, x.service, x.environment, began.step, began.title, began.at AS started_at,
           ended.at AS ended_at, ended.type AS result, ended.note
    FROM events AS began
    JOIN executions AS x ON x.id = began.execution
    LEFT JOIN events AS ended
        ON ended.execution = began.execution AND ended.step = began.step
        AND ended.type IN ('step_completed', 'step_failed')
    WHERE began.type = 'step_started';
CREATE VIEW rollback_events AS
    SELECT e.execution, x.service, x.environment, e.seq, e.at, e.type, e.state, e.step, e.title, e.note
    FROM events AS e JOIN executions AS x ON x.id = e.execution;
CREATE VIEW rollback_alerts AS
    SELECT execution, policy, service, environment, alertname, starts_at, labels, summary, generator_url, fingerprint
    FROM opening_alerts;
CREATE VIEW rollback_decisions AS
    SELECT id, at, last_at, times, policy, service, environment, result, guard, reason, execution FROM decisions;
CREATE VIEW evidence_kept AS
    SELECT id, execution, policy, service, environment, deployment_id, state, requested_at, kept_at, location, files,
           missing, bytes, problem
    FROM evidence;
CREATE VIEW deployments AS
    SELECT d.id, d.service, d.environment, d.version, d.artifact, d.at, d.recorded_by, d.rolled_back_by, v.status,
           d.provenance
    FROM recorded_deployments AS d
    LEFT JOIN versions AS v ON v.service = d.service AND v.environment = d.environment AND v.version = d.version;
CREATE VIEW platform_deployments AS
    SELECT a.id, a.service, a.environment, a.platform, a.version, a.artifact, a.provenance, a.at, a.recorded_by,
           a.rolled_back_by, v.status
    FROM artifacts AS a
    JOIN versions AS v ON v.service = a.service AND v.environment = a.environment AND v.version = a.version;
CREATE VIEW service_versions AS
    SELECT v.service, v.environment, v.version, v.status, v.reason, v.status_at, v.artifact, v.no_rollback, v.deployed_at,
           coalesce(r.version = v.version, FALSE) AS runs
    FROM versions AS v
    LEFT JOIN running AS r ON r.service = v.service AND r.environment = v.environment AND r.platform = '';
CREATE VIEW version_marks AS
    SELECT service, environment, version, revision, at, marked_by, status, reason, no_rollback FROM marks;
CREATE VIEW version_requirements AS
    SELECT service, environment, version, needs, revision, at, reported_by, versions FROM requirement_changes;
CREATE VIEW client_changes AS
    SELECT service, environment, platform, revision, at, changed_by, reason, min_version, blocked_versions, flags
    FROM client_rule_changes;

-- migration: 2

-- What a decision, the status and a scrape read costs the same however long the history is. The triggers keep the
-- counts, so that they are also right while replicas of the version before still write. Triggers are in SQLite's form;
-- postgres/schema.py gives PostgreSQL a function for each.

-- Each index has the ID of its rows last, so that a page of the history continues exactly where the one before ended.
DROP INDEX executions_recent;
CREATE INDEX executions_recent ON executions (accepted_at, id);
CREATE INDEX executions_open ON executions (accepted_at, id) WHERE state <> 'closed';
CREATE INDEX executions_ended ON executions (ended_at);

ALTER TABLE parts ADD COLUMN ended_at TIMESTAMPTZ;
UPDATE parts SET ended_at = (SELECT x.ended_at FROM executions AS x WHERE x.id = parts.execution);
DROP INDEX parts_of_service;
CREATE INDEX parts_of_service ON parts (service, environment, accepted_at, execution);
CREATE INDEX parts_of_version ON parts (service, environment, from_version, accepted_at);
CREATE INDEX parts_ended ON parts (service, environment, ended_at);
CREATE INDEX parts_recent_of ON parts (service, accepted_at, execution);
CREATE INDEX parts_recent_in ON parts (environment, accepted_at, execution);

CREATE INDEX opening_alerts_started ON opening_alerts (policy, service, environment, starts_at) WHERE NOT released;
CREATE INDEX evidence_alerts_started ON evidence_alerts (policy, service, environment, starts_at);

DROP INDEX decisions_recent;
CREATE INDEX decisions_recent ON decisions (last_at, id);
CREATE INDEX decisions_recent_of ON decisions (service, last_at, id);
CREATE INDEX decisions_recent_in ON decisions (environment, last_at, id);
CREATE INDEX decisions_of_execution ON decisions (execution) WHERE execution IS NOT NULL;

CREATE INDEX evidence_of_logs ON evidence (policy, service, environment, requested_at) WHERE execution IS NULL;
CREATE INDEX recorded_deployments_of_version ON recorded_deployments (service, environment, version, at);
CREATE INDEX marks_recent ON marks (service, at, version, revision);
CREATE INDEX versions_recent ON versions (service, status_at, version);

-- For the foreign keys of rows that are deleted.
CREATE INDEX evidence_of_execution ON evidence (execution) WHERE execution IS NOT NULL;
CREATE INDEX evidence_alerts_of ON evidence_alerts (evidence);

CREATE INDEX threads_failing ON threads (channel, error_at, subject) WHERE error <> '';
CREATE INDEX threads_claimed ON threads (claimed_by) WHERE claimed_by IS NOT NULL;

-- The last rollback of each policy on each service that changed something: the start of its cooldown.
CREATE TABLE last_ends (
    policy TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    execution TEXT NOT NULL REFERENCES executions (id),
    ended_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (policy, service, environment)
);
CREATE INDEX last_ends_of ON last_ends (execution);
INSERT INTO last_ends (policy, service, environment, execution, ended_at)
SELECT policy, service, environment, id, ended_at FROM (
    SELECT x.policy, p.service, p.environment, x.id, x.ended_at,
           row_number() OVER (PARTITION BY x.policy, p.service, p.environment ORDER BY x.ended_at DESC, x.id DESC) AS place
    FROM parts AS p JOIN executions AS x ON x.id = p.execution WHERE x.ended_at IS NOT NULL AND x.changed) AS ends
WHERE place = 1;

-- The number of closed rollbacks by outcome.
CREATE TABLE outcome_counts (
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    outcome TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (service, environment, outcome)
);
INSERT INTO outcome_counts (service, environment, outcome, n)
SELECT service, environment, outcome, count(*) FROM executions WHERE state = 'closed' GROUP BY service, environment, outcome;

CREATE TRIGGER execution_closed AFTER UPDATE OF state ON executions FOR EACH ROW
WHEN (NEW.state = 'closed' AND OLD.state <> 'closed')
BEGIN
    UPDATE parts SET ended_at = NEW.ended_at WHERE execution = NEW.id;
    INSERT INTO last_ends (policy, service, environment, execution, ended_at)
    SELECT NEW.policy, p.service, p.environment, NEW.id, NEW.ended_at FROM parts AS p
    WHERE p.execution = NEW.id AND NEW.changed
    ON CONFLICT (policy, service, environment) DO UPDATE
    SET execution = excluded.execution, ended_at = excluded.ended_at WHERE last_ends.ended_at <= excluded.ended_at;
    INSERT INTO outcome_counts (service, environment, outcome, n)
    VALUES (NEW.service, NEW.environment, NEW.outcome, 1)
    ON CONFLICT (service, environment, outcome) DO UPDATE SET n = outcome_counts.n + 1;
END;

-- How often each policy in observe mode would have acted. One row per service: its decisions come one after the other.
CREATE TABLE observed_counts (
    policy TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    n INTEGER NOT NULL,
    last_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (policy, service, environment)
);
INSERT INTO observed_counts (policy, service, environment, n, last_at)
SELECT policy, service, environment, count(*), max(last_at) FROM decisions
WHERE guard = 'mode' AND result = 'deny' GROUP BY policy, service, environment;

CREATE TRIGGER decision_observed AFTER INSERT ON decisions FOR EACH ROW
WHEN (NEW.guard = 'mode' AND NEW.result = 'deny')
BEGIN
    INSERT INTO observed_counts (policy, service, environment, n, last_at)
    VALUES (NEW.policy, NEW.service, NEW.environment, 1, NEW.last_at)
    ON CONFLICT (policy, service, environment) DO UPDATE SET n = observed_counts.n + 1, last_at = excluded.last_at;
END;

CREATE TRIGGER decision_observed_again AFTER UPDATE OF last_at ON decisions FOR EACH ROW
WHEN (NEW.guard = 'mode' AND NEW.result = 'deny')
BEGIN
    UPDATE observed_counts SET last_at = NEW.last_at
    WHERE policy = NEW.policy AND service = NEW.service AND environment = NEW.environment;
END;

-- migration: 3

-- Where the events, messages and decisions of a rollback are, once they have left the journal (`journal.retention`).
ALTER TABLE executions ADD COLUMN archived_in TEXT;
CREATE INDEX executions_to_archive ON executions (ended_at, id) WHERE state = 'closed' AND archived_in IS NULL;
CREATE VIEW rollback_archive AS
    SELECT id AS execution, service, environment, ended_at, archived_in AS location
    FROM executions WHERE archived_in IS NOT NULL;
