-- Executions, their events, and the alerts that opened them.

-- name: claimable
-- Live executions without a live worker: never claimed, or claimed by a worker whose lease expired. Interrupted ones
-- come first, because their service may be between two versions.
SELECT x.id, x.worker, x.resumptions, x.accepted_at FROM executions AS x
LEFT JOIN workers AS w ON w.id = x.worker
WHERE x.state <> 'closed' AND x.state IN ('accepted', 'running', 'reverting')
  AND (w.id IS NULL OR w.expires_at <= {now} OR w.id = :worker)
ORDER BY CASE WHEN x.worker IS NULL THEN 1 ELSE 0 END, x.accepted_at, x.id;

-- name: count_claimed
-- The number of executions in progress. An interrupted one keeps its slot, so that no new one delays its resumption.
SELECT count(*) AS n FROM executions
WHERE state <> 'closed' AND state IN ('accepted', 'running', 'reverting') AND worker IS NOT NULL;

-- name: claim_execution
-- The worker owns it from now on. A second claim counts as a resumption.
UPDATE executions SET worker = :worker, resumptions = resumptions + :again WHERE id = :execution;

-- name: release_execution
-- Gives up the claim, for example while the execution awaits approval.
UPDATE executions SET worker = NULL WHERE id = :execution AND worker = :worker;

-- name: insert_execution
-- No row: the service has a live or stuck rollback.
INSERT INTO executions (id, service, environment, policy, strategy, from_version, to_version, requested_by, state,
                        reason, seq, onset_at, firing_at, accepted_at, changed)
VALUES (:id, :service, :environment, :policy, :strategy, :from_version, :to_version, :requested_by, 'accepted',
        :reason, 0, :onset_at, :firing_at, :accepted_at, FALSE)
ON CONFLICT DO NOTHING RETURNING id;

-- name: insert_part
-- No row: the service has a live or stuck rollback.
INSERT INTO parts (execution, service, environment, strategy, from_version, to_version, accepted_at, live)
VALUES (:execution, :service, :environment, :strategy, :from_version, :to_version, :accepted_at, TRUE)
ON CONFLICT DO NOTHING RETURNING service;

-- name: release_parts
-- A closed rollback blocks no later one of its services.
UPDATE parts SET live = FALSE WHERE execution = :execution;

-- name: insert_opening_alert
-- No row: this alert already opened a rollback of this deployment.
INSERT INTO opening_alerts (policy, service, environment, fingerprint, starts_at, deployed_at, execution,
                      alertname, labels, summary, generator_url)
VALUES (:policy, :service, :environment, :fingerprint, :starts_at, :deployed_at, :execution,
        :alertname, :labels, :summary, :generator_url)
ON CONFLICT DO NOTHING RETURNING execution;

-- name: opening_alerts_since
-- Alerts that started then or later and opened a rollback of the service.
SELECT fingerprint, starts_at, deployed_at, execution FROM opening_alerts
WHERE policy = :policy AND service = :service AND environment = :environment AND starts_at >= :since AND NOT released;

-- name: release_opening_alerts
-- The alerts of a rollback that changed nothing may open another one.
UPDATE opening_alerts SET released = TRUE WHERE execution = :execution;

-- name: append_event
-- The fence. No row: another worker wrote this number first.
INSERT INTO events (execution, seq, at, type, state, step, title, note, body)
VALUES (:execution, :seq, :at, :type, :state, :step, :title, :note, :body)
ON CONFLICT DO NOTHING RETURNING seq;

-- name: update_execution
-- The state after the events, in the same transaction. No row: another worker owns it.
UPDATE executions SET state = :state, outcome = :outcome, reason = :reason, seq = :seq, changed = :changed,
    plan_hash = :plan_hash, acted_at = coalesce(acted_at, :acted_at), ended_at = :ended_at, duration_seconds = :duration
WHERE id = :id AND (CAST(:worker AS TEXT) IS NULL OR worker = :worker) RETURNING id;

-- name: events_of
SELECT body FROM events WHERE execution = :execution ORDER BY seq;

-- name: events_after
-- Events since the last one that a listener received.
SELECT body FROM events WHERE execution = :execution AND seq > :seq ORDER BY seq LIMIT :most;

-- name: execution_heads
-- The last event number of each execution that is open or was accepted since then.
SELECT id, seq, ended_at FROM executions WHERE state <> 'closed'
UNION SELECT id, seq, ended_at FROM executions WHERE accepted_at >= :since;

-- name: ended_since
-- Executions whose end a listener may have missed.
SELECT id FROM executions WHERE ended_at >= :since ORDER BY ended_at LIMIT :most;

-- name: first_event
SELECT body FROM events WHERE execution = :execution AND seq = 0;

-- name: execution
SELECT * FROM executions WHERE id = :id;

-- name: executions
-- History, newest first: accepted since then, and before the last one of the page before.
SELECT x.* FROM executions AS x
WHERE x.accepted_at >= :since AND (x.accepted_at, x.id) < (:before, :before_id)
  AND (CAST(:state AS TEXT) IS NULL OR x.state = :state)
ORDER BY x.accepted_at DESC, x.id DESC LIMIT :most;

-- name: executions_in_state
-- The same for a state that few have: every one but `closed`.
SELECT x.* FROM executions AS x
WHERE x.state <> 'closed' AND x.state = :state AND x.accepted_at >= :since
  AND (CAST(:service AS TEXT) IS NULL
       OR EXISTS (SELECT 1 FROM parts AS p WHERE p.execution = x.id AND p.service = :service))
  AND (x.accepted_at, x.id) < (:before, :before_id) AND {permitted}
ORDER BY x.accepted_at DESC, x.id DESC LIMIT :most;

-- name: executions_of
-- The same for one service.
SELECT x.* FROM parts AS p JOIN executions AS x ON x.id = p.execution
WHERE p.service = :service AND p.accepted_at >= :since AND (p.accepted_at, p.execution) < (:before, :before_id)
  AND (CAST(:state AS TEXT) IS NULL OR x.state = :state) AND {permitted}
ORDER BY p.accepted_at DESC, p.execution DESC LIMIT :most;

-- name: executions_in
-- The same for one environment. A rollback of several services comes once, with its first part.
SELECT x.* FROM parts AS p JOIN executions AS x ON x.id = p.execution
WHERE p.environment = :environment AND p.service = x.service AND p.accepted_at >= :since
  AND (p.accepted_at, p.execution) < (:before, :before_id)
  AND (CAST(:state AS TEXT) IS NULL OR x.state = :state) AND {permitted}
ORDER BY p.accepted_at DESC, p.execution DESC LIMIT :most;

-- name: executions_by_id
-- The newest in a range of IDs.
SELECT x.* FROM executions AS x
WHERE x.id >= :id AND x.id < :id_end AND {permitted}
ORDER BY x.id DESC LIMIT :most;

-- name: open_executions
-- Executions that are live, await approval or are stuck, with their stop requests.
SELECT * FROM executions WHERE state <> 'closed' ORDER BY accepted_at, id;

-- name: open_execution_ids
-- Used by commands beside a running responder.
SELECT id FROM executions WHERE state <> 'closed';

-- name: latest_of_service
-- The latest rollback of a service. If one is live or stuck, it is this one.
SELECT x.id, x.policy, x.state, x.outcome, p.from_version, p.to_version, x.changed, x.ended_at, x.reason
FROM parts AS p JOIN executions AS x ON x.id = p.execution
WHERE p.service = :service AND p.environment = :environment ORDER BY p.accepted_at DESC, p.execution DESC LIMIT 1;

-- name: last_ended
-- The latest closed rollback of a service.
SELECT * FROM executions WHERE service = :service AND environment = :environment AND state = 'closed'
ORDER BY accepted_at DESC, id DESC LIMIT 1;

-- name: last_of_policy
-- The rollback whose end starts the cooldown of the policy.
SELECT x.id, x.policy, x.state, x.outcome, p.from_version, p.to_version, x.changed, x.ended_at, x.reason
FROM last_ends AS l JOIN executions AS x ON x.id = l.execution
JOIN parts AS p ON p.execution = l.execution AND p.service = l.service
WHERE l.policy = :policy AND l.service = :service AND l.environment = :environment;

-- name: rollback_of_version
-- The last rollback of this version that changed something, or that a person stopped by ID.
SELECT x.id, x.policy, x.state, x.outcome, p.from_version, p.to_version, x.changed, x.ended_at, x.reason, x.stop_requested_by
FROM parts AS p JOIN executions AS x ON x.id = p.execution
WHERE p.service = :service AND p.environment = :environment AND p.from_version = :version
  AND (x.changed OR (x.outcome = 'cancelled' AND x.stop_requested_by IS NOT NULL))
ORDER BY p.accepted_at DESC LIMIT 1;

-- name: last_ends
-- When each policy last finished on each service: the start of its cooldown.
SELECT policy, service, environment, ended_at FROM last_ends;

-- name: accepted_since
-- Rollbacks accepted since then that changed something or still may, and the time of the first one.
SELECT count(*) AS n, min(accepted_at) AS first_at FROM executions
WHERE accepted_at >= :since AND (changed OR state <> 'closed');

-- name: last_success_between
-- When the last rollback of the service between these times succeeded: the service was healthy then.
SELECT p.ended_at AS at FROM parts AS p JOIN executions AS x ON x.id = p.execution
WHERE p.service = :service AND p.environment = :environment AND x.outcome = 'succeeded'
  AND p.ended_at BETWEEN :since AND :until
ORDER BY p.ended_at DESC LIMIT 1;

-- name: request_stop
-- Only live executions and those that await approval can be stopped. The first request stays on record.
UPDATE executions SET stop_requested_by = coalesce(stop_requested_by, :by), stop_reason = coalesce(stop_reason, :reason)
WHERE id = :id AND state IN ('accepted', 'awaiting_approval', 'running') RETURNING id;

-- name: stop_request
SELECT stop_requested_by, stop_reason FROM executions WHERE id = :id AND stop_requested_by IS NOT NULL;

-- name: count_by_outcome
SELECT outcome, sum(n) AS n FROM outcome_counts
WHERE (CAST(:service AS TEXT) IS NULL OR service = :service) AND (CAST(:environment AS TEXT) IS NULL OR environment = :environment)
GROUP BY outcome
UNION ALL SELECT 'open', count(*) FROM executions
WHERE state <> 'closed' AND (CAST(:service AS TEXT) IS NULL OR service = :service)
  AND (CAST(:environment AS TEXT) IS NULL OR environment = :environment)
HAVING count(*) > 0;
