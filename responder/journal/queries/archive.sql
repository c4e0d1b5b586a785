-- What leaves the journal after its retention. Rows of executions, parts and opening alerts stay: guards read them.

-- name: executions_to_archive
-- Closed rollbacks with delivered messages, oldest first. The last one of each service stays, and the last one that
-- restored a version.
SELECT x.* FROM executions AS x
WHERE x.state = 'closed' AND x.archived_in IS NULL AND x.ended_at < :before
  AND NOT EXISTS (SELECT 1 FROM messages AS m WHERE m.subject = x.id AND m.state = 'pending')
  AND NOT EXISTS (SELECT 1 FROM outbox AS o WHERE o.subject = x.id)
  AND NOT EXISTS (
    SELECT 1 FROM parts AS p WHERE p.execution = x.id AND NOT EXISTS (
        SELECT 1 FROM parts AS later JOIN executions AS y ON y.id = later.execution
        WHERE later.service = p.service AND later.environment = p.environment AND later.accepted_at > p.accepted_at
          AND (x.outcome NOT IN ('succeeded', 'mitigated') OR y.outcome IN ('succeeded', 'mitigated'))))
ORDER BY x.ended_at, x.id LIMIT :most;

-- name: parts_of_execution
SELECT service, environment, strategy, from_version, to_version FROM parts WHERE execution = :execution ORDER BY service;

-- name: opening_alerts_of
SELECT * FROM opening_alerts WHERE execution = :execution ORDER BY fingerprint, starts_at;

-- name: mark_archived
-- No row: another replica archived it.
UPDATE executions SET archived_in = :location WHERE id = :execution AND state = 'closed' AND archived_in IS NULL
RETURNING id;

-- name: delete_events
DELETE FROM events WHERE execution = :execution;

-- name: delete_messages
DELETE FROM messages WHERE subject = :subject AND state <> 'pending';

-- name: delete_thread
DELETE FROM threads WHERE subject = :subject
  AND NOT EXISTS (SELECT 1 FROM messages AS m WHERE m.subject = threads.subject AND m.channel = threads.channel);

-- name: decisions_to_archive
-- Oldest first. A decision stays while its incident is decided again, or its rollback is in the journal. The last
-- request for a rollback by each policy on each service stays: trouble since a deployment counts against the version.
SELECT d.* FROM decisions AS d WHERE d.last_at < :before AND {expired}
ORDER BY d.last_at, d.id LIMIT :most;

-- name: delete_decision
-- No row: it was made again meanwhile, or another replica archived it.
DELETE FROM decisions AS d WHERE d.id = :id AND d.last_at = :last_at AND d.last_at < :before AND {expired} RETURNING id;
