-- The journal's tables, in the SQL that SQLite (3.35 and newer) and PostgreSQL (13 and newer) both read.
-- Forward only: a change of the schema is a new numbered section; what has run once is never edited.

-- migration: 1

-- One row a boot of a worker; an id is never used again.
CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
);

-- What the events add up to, kept in the same transaction as they are, so that the guarantees below can be the schema's.
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
    stop_by TEXT,
    stop_reason TEXT
);
-- One live or stuck rollback a service and environment, whichever replica asks.
CREATE UNIQUE INDEX executions_one_live ON executions (service, environment) WHERE state <> 'closed';
CREATE INDEX executions_of_service ON executions (service, environment, accepted_at);
CREATE INDEX executions_recent ON executions (accepted_at);

-- Which alert instances have opened a rollback: a re-sent alert finds itself here and is a no-op.
CREATE TABLE episodes (
    policy TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    starts_at TIMESTAMPTZ NOT NULL,
    execution TEXT NOT NULL REFERENCES executions (id),
    PRIMARY KEY (policy, service, environment, fingerprint, starts_at)
);

-- Appended, never changed. The primary key is the fence: of two workers the second fails on its own append.
CREATE TABLE events (
    execution TEXT NOT NULL REFERENCES executions (id),
    seq INTEGER NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    type TEXT NOT NULL,
    step INTEGER,
    title TEXT,
    note TEXT,
    body TEXT NOT NULL,
    PRIMARY KEY (execution, seq)
);

-- Every act and every refusal with its reason. The same result on the same incident, heard again, is counted, not repeated.
CREATE TABLE decisions (
    id TEXT PRIMARY KEY,
    incident TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    last_at TIMESTAMPTZ NOT NULL,
    times INTEGER NOT NULL,
    policy TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    result TEXT NOT NULL,
    guard TEXT NOT NULL,
    reason TEXT NOT NULL,
    execution TEXT,
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX decisions_once ON decisions (incident, result, guard);
CREATE INDEX decisions_recent ON decisions (last_at);
CREATE INDEX decisions_of_service ON decisions (service, environment, last_at);

CREATE TABLE deployed (
    id TEXT PRIMARY KEY,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    version TEXT NOT NULL,
    artifact TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    recorded_by TEXT NOT NULL,
    rolled_back_by TEXT
);
CREATE INDEX deployed_of_service ON deployed (service, environment, at);

CREATE TABLE versions (
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    version TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    status_at TIMESTAMPTZ NOT NULL,
    artifact TEXT NOT NULL,
    PRIMARY KEY (service, environment, version)
);

-- Switches that an operator throws; today there is one, the kill switch.
CREATE TABLE switches (
    name TEXT PRIMARY KEY,
    thrown_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL
);

-- The documented views (docs/reference/views.md): columns are only ever added.
CREATE VIEW rollback_history AS
    SELECT id, service, environment, policy, strategy, from_version, to_version, requested_by, state, outcome, reason,
           onset_at, firing_at, accepted_at, acted_at, ended_at, duration_seconds, changed
    FROM executions;
CREATE VIEW rollback_steps AS
    SELECT began.execution, x.service, x.environment, began.step, began.title, began.at AS started_at,
           ended.at AS ended_at, ended.type AS result, ended.note
    FROM events AS began
    JOIN executions AS x ON x.id = began.execution
    LEFT JOIN events AS ended
        ON ended.execution = began.execution AND ended.step = began.step AND ended.type IN ('step_completed', 'step_failed')
    WHERE began.type = 'step_started';
CREATE VIEW rollback_decisions AS
    SELECT id, at, last_at, times, policy, service, environment, result, guard, reason, execution FROM decisions;
CREATE VIEW deployments AS
    SELECT d.id, d.service, d.environment, d.version, d.artifact, d.at, d.recorded_by, d.rolled_back_by, v.status
    FROM deployed AS d
    LEFT JOIN versions AS v
        ON v.service = d.service AND v.environment = d.environment AND v.version = d.version;

-- migration: 2

-- Why a version must not be rolled back past, as a security fix; empty where nobody said so.
ALTER TABLE versions ADD COLUMN no_rollback TEXT NOT NULL DEFAULT '';
-- Whether a person asked for it: then it says nothing about the trouble that others are in.
ALTER TABLE decisions ADD COLUMN forced BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX decisions_in_environment ON decisions (environment, at);

-- When something that is told again and again was heard last, as the watchdog.
CREATE TABLE heard (
    name TEXT PRIMARY KEY,
    at TIMESTAMPTZ NOT NULL
);

-- migration: 3

-- What was decided about: rolling back, or only keeping logs, which says nothing about a version.
ALTER TABLE decisions ADD COLUMN action TEXT NOT NULL DEFAULT 'roll_back';

-- What is kept of a service in trouble: for a rollback under its id, else under that of the decision to keep it.
CREATE TABLE evidence (
    id TEXT PRIMARY KEY,
    execution TEXT REFERENCES executions (id),
    policy TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    deployment_id TEXT NOT NULL,
    state TEXT NOT NULL,
    asked_at TIMESTAMPTZ NOT NULL,
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
CREATE INDEX evidence_of_policy ON evidence (policy, service, environment, asked_at);
CREATE INDEX evidence_wanted ON evidence (asked_at) WHERE state = 'wanted';

-- Documented as the other views are. `state`: wanted, kept, failed (`problem` says why) or deleted.
CREATE VIEW evidence_kept AS
    SELECT id, execution, policy, service, environment, deployment_id, state, asked_at, kept_at, location, files, missing,
           bytes, problem
    FROM evidence;

-- Which alert instances had logs kept by themselves: a re-sent alert finds itself here and is a no-op.
CREATE TABLE evidence_episodes (
    policy TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    starts_at TIMESTAMPTZ NOT NULL,
    evidence TEXT NOT NULL REFERENCES evidence (id),
    PRIMARY KEY (policy, service, environment, fingerprint, starts_at)
);

-- migration: 4

-- Every service of a rollback: of one alone too, so that one live or stuck rollback a service is the schema's word.
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
INSERT INTO parts SELECT id, service, environment, strategy, from_version, to_version, accepted_at, state <> 'closed'
    FROM executions;

-- Which versions of another service a version works with, as `>=2.1`.
CREATE TABLE requirements (
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    version TEXT NOT NULL,
    needs TEXT NOT NULL,
    versions TEXT NOT NULL,
    PRIMARY KEY (service, environment, version, needs)
);
CREATE INDEX requirements_on ON requirements (environment, needs);

CREATE VIEW rollback_parts AS
    SELECT p.execution, p.service, p.environment, p.strategy, p.from_version, p.to_version, x.state, x.outcome
    FROM parts AS p JOIN executions AS x ON x.id = p.execution;

-- migration: 5

-- What each event came to; null on those that were written before this was kept.
ALTER TABLE events ADD COLUMN state TEXT;
-- What people know an alert by; empty on those that were accepted before this was kept.
ALTER TABLE episodes ADD COLUMN alertname TEXT NOT NULL DEFAULT '';
ALTER TABLE episodes ADD COLUMN labels TEXT NOT NULL DEFAULT '';
ALTER TABLE episodes ADD COLUMN summary TEXT NOT NULL DEFAULT '';
ALTER TABLE episodes ADD COLUMN generator_url TEXT NOT NULL DEFAULT '';
CREATE INDEX episodes_of_execution ON episodes (execution);
CREATE INDEX events_recent ON events (at);

CREATE VIEW rollback_events AS
    SELECT e.execution, x.service, x.environment, e.seq, e.at, e.type, e.state, e.step, e.title, e.note
    FROM events AS e JOIN executions AS x ON x.id = e.execution;
CREATE VIEW rollback_alerts AS
    SELECT execution, policy, service, environment, alertname, starts_at, labels, summary, generator_url, fingerprint
    FROM episodes;
CREATE VIEW service_versions AS
    SELECT v.service, v.environment, v.version, v.status, v.reason, v.status_at, v.artifact, v.no_rollback,
           max(d.at) AS deployed_at, max(CASE WHEN d.recency = 1 THEN 1 ELSE 0 END) = 1 AS runs
    FROM versions AS v
    LEFT JOIN (SELECT service, environment, version, at,
                      row_number() OVER (PARTITION BY service, environment ORDER BY at DESC, id DESC) AS recency
               FROM deployed) AS d
        ON d.service = v.service AND d.environment = v.environment AND d.version = v.version
    GROUP BY v.service, v.environment, v.version;

-- migration: 6

-- What is to be told, written with the event or the decision that it tells of. Who hears it is found out later, by the
-- configuration; then it is taken from here.
CREATE TABLE outbox (
    subject TEXT NOT NULL,
    seq INTEGER NOT NULL,
    stage TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (subject, seq)
);

-- All that one channel is told of one execution: what it is known by there, and when it is tried next. One replica at a
-- time tells it, so that it stays in order.
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
-- Each message with what became of it: pending, told, overtaken by a later one, or given up.
CREATE TABLE messages (
    subject TEXT NOT NULL,
    channel TEXT NOT NULL,
    occasion TEXT NOT NULL,
    seq INTEGER NOT NULL,
    stage TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    state TEXT NOT NULL,
    state_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (subject, channel, occasion)
);
CREATE INDEX messages_pending ON messages (channel, at) WHERE state = 'pending';
CREATE INDEX messages_given_up ON messages (channel, state_at) WHERE state = 'given_up';

-- migration: 7

-- Who built it, as the address of a pipeline's run.
ALTER TABLE deployed ADD COLUMN provenance TEXT NOT NULL DEFAULT '';
ALTER TABLE versions ADD COLUMN provenance TEXT NOT NULL DEFAULT '';
-- When it was deployed last, and how often what is known of it changed.
ALTER TABLE versions ADD COLUMN deployed_at TIMESTAMPTZ;
ALTER TABLE versions ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
UPDATE versions SET revision = 1, deployed_at = (
    SELECT max(d.at) FROM deployed AS d
    WHERE d.service = versions.service AND d.environment = versions.environment AND d.version = versions.version);
CREATE INDEX versions_good ON versions (service, environment, deployed_at) WHERE status = 'good';
CREATE INDEX versions_staying ON versions (service, environment, deployed_at) WHERE no_rollback <> '';
CREATE INDEX deployed_recent ON deployed (at, id);
DROP INDEX deployed_of_service;
CREATE INDEX deployed_of_service ON deployed (service, environment, at, id);
CREATE INDEX deployed_in ON deployed (environment, at, id);

-- Appended, never changed: a version reached a platform, with what it is made of there.
CREATE TABLE artifacts (
    id TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    platform TEXT NOT NULL,
    version TEXT NOT NULL,
    artifact TEXT NOT NULL,
    provenance TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    recorded_by TEXT NOT NULL,
    rolled_back_by TEXT,
    PRIMARY KEY (service, environment, platform, id)
);
CREATE INDEX artifacts_recent ON artifacts (service, environment, platform, at, id);
CREATE INDEX artifacts_of_version ON artifacts (service, environment, version, platform, at, id);

-- The newest deployment of every service, and of every platform that it was told to be on (else '').
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
INSERT INTO running
    SELECT d.service, d.environment, '', d.id, d.version, d.artifact, d.provenance, d.at, d.recorded_by, d.rolled_back_by,
           v.status
    FROM (SELECT deployed.*, row_number() OVER (PARTITION BY service, environment ORDER BY at DESC, id DESC) AS recency
          FROM deployed) AS d
    JOIN versions AS v ON v.service = d.service AND v.environment = d.environment AND v.version = d.version
    WHERE d.recency = 1;

-- Appended, never changed: what was said of a version, when and by whom. `versions` is the last of it.
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
INSERT INTO marks SELECT service, environment, version, 1, status_at, '', status, reason, no_rollback FROM versions;

-- How many versions of each status there are.
CREATE TABLE version_counts (
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    status TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (service, environment, status)
);
INSERT INTO version_counts SELECT service, environment, status, count(*) FROM versions GROUP BY service, environment, status;

-- What the apps of a platform are told: the last of `client_rule_changes`.
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
-- Appended, never changed: each with all that apps were told from then on.
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

DROP VIEW service_versions;
CREATE VIEW service_versions AS
    SELECT v.service, v.environment, v.version, v.status, v.reason, v.status_at, v.artifact, v.no_rollback, v.deployed_at,
           coalesce(r.version = v.version, FALSE) AS runs
    FROM versions AS v
    LEFT JOIN running AS r ON r.service = v.service AND r.environment = v.environment AND r.platform = '';
DROP VIEW deployments;
CREATE VIEW deployments AS
    SELECT d.id, d.service, d.environment, d.version, d.artifact, d.at, d.recorded_by, d.rolled_back_by, v.status,
           d.provenance
    FROM deployed AS d
    LEFT JOIN versions AS v
        ON v.service = d.service AND v.environment = d.environment AND v.version = d.version;
CREATE VIEW platform_deployments AS
    SELECT a.id, a.service, a.environment, a.platform, a.version, a.artifact, a.provenance, a.at, a.recorded_by,
           a.rolled_back_by, v.status
    FROM artifacts AS a
    JOIN versions AS v ON v.service = a.service AND v.environment = a.environment AND v.version = a.version;
CREATE VIEW version_marks AS
    SELECT service, environment, version, revision, at, marked_by, status, reason, no_rollback FROM marks;
CREATE VIEW client_changes AS
    SELECT service, environment, platform, revision, at, changed_by, reason, min_version, blocked_versions, flags
    FROM client_rule_changes;

-- migration: 8

-- Appended, never changed: which versions of another service a version was told to work with, when and by whom; when is
-- null on what was told before this was kept. `requirements` is the last of it.
CREATE TABLE requirement_changes (
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    version TEXT NOT NULL,
    needs TEXT NOT NULL,
    revision INTEGER NOT NULL,
    at TIMESTAMPTZ,
    told_by TEXT NOT NULL,
    versions TEXT NOT NULL,
    PRIMARY KEY (service, environment, version, needs, revision)
);
INSERT INTO requirement_changes SELECT service, environment, version, needs, 1, NULL, '', versions FROM requirements;
ALTER TABLE requirements ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
CREATE VIEW version_requirements AS
    SELECT service, environment, version, needs, revision, at, told_by, versions FROM requirement_changes;

-- migration: 9

-- An episode is about one deployment: a second bad version under an alert that never resolved is judged anew.
DROP VIEW rollback_alerts;
ALTER TABLE episodes RENAME TO episodes_before;
DROP INDEX episodes_of_execution;
CREATE TABLE episodes (
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
-- A rollback that a guard cancelled before it changed anything releases its alerts: they may open another one.
CREATE UNIQUE INDEX episodes_once
    ON episodes (policy, service, environment, fingerprint, starts_at, deployed_at) WHERE NOT released;
INSERT INTO episodes
    SELECT e.policy, e.service, e.environment, e.fingerprint, e.starts_at,
           coalesce((SELECT max(d.at) FROM deployed AS d
                     WHERE d.service = e.service AND d.environment = e.environment AND d.version = x.from_version
                       AND d.at <= x.accepted_at), x.accepted_at),
           e.execution, e.alertname, e.labels, e.summary, e.generator_url, FALSE
    FROM episodes_before AS e JOIN executions AS x ON x.id = e.execution;
DROP TABLE episodes_before;
CREATE VIEW rollback_alerts AS
    SELECT execution, policy, service, environment, alertname, starts_at, labels, summary, generator_url, fingerprint
    FROM episodes;

-- migration: 10

-- When a deployment took place, as its reporter said. The order is that in which the database recorded them (`at`).
ALTER TABLE deployed ADD COLUMN reported_at TIMESTAMPTZ;
ALTER TABLE artifacts ADD COLUMN reported_at TIMESTAMPTZ;

-- migration: 11

-- When alerts began whose sender does not say when; forgotten a day after they ended.
CREATE TABLE undated_alerts (
    fingerprint TEXT PRIMARY KEY,
    starts_at TIMESTAMPTZ NOT NULL,
    ends_at TIMESTAMPTZ NOT NULL
);

-- migration: 12

-- Whether a person has to take over: a guard refused that no time lifts by itself, and the trouble was visible then.
ALTER TABLE decisions ADD COLUMN needs_human BOOLEAN NOT NULL DEFAULT FALSE;
