-- Decisions, alert start times, the kill switch and heartbeats.

-- name: set_switch
INSERT INTO switches (name, set_by, reason, at) VALUES (:name, :by, :reason, :at)
ON CONFLICT (name) DO UPDATE SET set_by = excluded.set_by, reason = excluded.reason, at = excluded.at;

-- name: release_switch
DELETE FROM switches WHERE name = :name RETURNING name;

-- name: switch
SELECT set_by, reason, at FROM switches WHERE name = :name;

-- name: record_heartbeat
INSERT INTO heartbeats (name, at) VALUES (:name, :at)
ON CONFLICT (name) DO UPDATE SET at = excluded.at WHERE heartbeats.at < excluded.at;

-- name: last_heartbeat
SELECT at FROM heartbeats WHERE name = :name;

-- name: record_decision
-- A repeated result on the same incident increments the count and updates the reason.
INSERT INTO decisions
    (id, incident, at, last_at, times, action, policy, service, environment, result, guard, reason, execution, forced,
     needs_human, body)
VALUES
    (:id, :incident, :at, :at, 1, :action, :policy, :service, :environment, :result, :guard, :reason, :execution, :forced,
     :needs_human, :body)
ON CONFLICT (incident, result, guard) DO UPDATE
SET last_at = excluded.last_at, times = decisions.times + :again, reason = excluded.reason, body = excluded.body,
    needs_human = excluded.needs_human, execution = coalesce(excluded.execution, decisions.execution)
RETURNING id;

-- name: decisions
-- Newest first.
SELECT * FROM decisions WHERE last_at >= :since ORDER BY last_at DESC, id DESC LIMIT :most;

-- name: decisions_of
-- Of one service, newest first.
SELECT * FROM decisions
WHERE service = :service AND last_at >= :since
  AND (CAST(:environments AS TEXT) IS NULL OR replace(CAST(:environments AS TEXT), '|' || environment || '|', '') <> :environments)
ORDER BY last_at DESC, id DESC LIMIT :most;

-- name: decisions_in
-- Of one environment, newest first.
SELECT * FROM decisions WHERE environment = :environment AND last_at >= :since ORDER BY last_at DESC, id DESC LIMIT :most;

-- name: denied_since
-- Alerts that requested a rollback and were denied, newest first. An alert that already opened a rollback is not a
-- denial.
SELECT service, environment, guard, reason, last_at FROM decisions
WHERE result = 'deny' AND guard <> 'duplicate_alert' AND NOT forced AND last_at >= :since ORDER BY last_at DESC LIMIT :most;

-- name: decided_since
-- Decisions on rollbacks since then, newest first.
SELECT service, environment, policy, result, guard, needs_human FROM decisions
WHERE last_at >= :since AND action = 'roll_back' AND result <> 'ignore' ORDER BY last_at DESC LIMIT :most;

-- name: decisions_to_revisit
-- The same with their full records, the outcome of the rollback and the last deployment of the service, without those
-- that a person requested.
SELECT d.incident, d.result, d.guard, d.last_at, d.body, x.outcome, x.ended_at,
       (SELECT max(r.at) FROM running AS r WHERE r.service = d.service AND r.environment = d.environment) AS deployed_at
FROM decisions AS d LEFT JOIN executions AS x ON x.id = d.execution
WHERE d.last_at >= :since AND d.action = 'roll_back' AND d.result <> 'ignore' AND NOT d.forced
ORDER BY d.last_at DESC LIMIT :most;

-- name: decisions_of_execution
SELECT * FROM decisions WHERE execution = :execution ORDER BY at;

-- name: decision
SELECT * FROM decisions WHERE id = :id;

-- name: decision_of_execution
SELECT body FROM decisions WHERE execution = :execution ORDER BY at LIMIT 1;

-- name: first_decided
-- When the incident was decided for the first time.
SELECT min(at) AS at FROM decisions WHERE incident = :incident;

-- name: trouble_returned
-- For an incident whose trouble was once not visible: when it was decided first since then; null: not yet.
SELECT (SELECT min(d.at) FROM decisions AS d WHERE d.incident = gone.incident AND d.at > gone.last_at) AS at
FROM decisions AS gone
WHERE gone.incident = :incident AND gone.result = 'deny' AND gone.guard = 'trouble_now';

-- name: services_in_trouble
-- Other services of the environment whose first alert that requests a rollback arrived between these times; at most so
-- many, because in a storm each decision would read all others.
SELECT DISTINCT d.service FROM decisions AS d
WHERE d.environment = :environment AND d.at BETWEEN :since AND :until AND d.service <> :service AND NOT d.forced
  AND d.result <> 'ignore' AND d.guard <> 'service_configured' AND d.action = 'roll_back'
  AND (SELECT min(earlier.at) FROM decisions AS earlier WHERE earlier.incident = d.incident) >= :since
LIMIT :most;

-- name: count_in_trouble
-- The number of services per environment whose first alert that requests a rollback arrived since then. An expression
-- as the group: SQLite would read the index of the column from its start instead of what is recent.
SELECT max(d.environment) AS environment, count(DISTINCT d.service) AS n FROM decisions AS d
WHERE d.last_at >= :since AND d.at >= :since AND NOT d.forced AND d.result <> 'ignore' AND d.guard <> 'service_configured'
  AND d.action = 'roll_back'
  AND (SELECT min(earlier.at) FROM decisions AS earlier WHERE earlier.incident = d.incident) >= :since
GROUP BY d.environment || '';

-- name: observed
-- How often each policy in observe mode would have acted.
SELECT policy, sum(n) AS n, max(last_at) AS last_at FROM observed_counts GROUP BY policy;

-- name: trouble_since
-- Whether an alert requested a rollback of this service since then, by this policy or by any. Such a version is not
-- promoted.
SELECT id FROM decisions
WHERE service = :service AND environment = :environment AND last_at >= :since AND result <> 'ignore' AND NOT forced
  AND action = 'roll_back' AND (CAST(:policy AS TEXT) IS NULL OR policy = :policy)
LIMIT 1;

-- name: date_alert
-- The start of an alert without `startsAt`: its first arrival since it last ended.
INSERT INTO undated_alerts (fingerprint, starts_at, ends_at) VALUES (:fingerprint, :at, :until)
ON CONFLICT (fingerprint) DO UPDATE
SET starts_at = CASE WHEN undated_alerts.ends_at < excluded.starts_at THEN excluded.starts_at
                     ELSE undated_alerts.starts_at END,
    ends_at = excluded.ends_at
RETURNING starts_at;

-- name: undated_alert
SELECT starts_at FROM undated_alerts WHERE fingerprint = :fingerprint AND ends_at >= :at;

-- name: forget_undated_alerts
DELETE FROM undated_alerts WHERE ends_at < :before;
