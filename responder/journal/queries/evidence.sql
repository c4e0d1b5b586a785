-- Evidence: what was requested, and what was collected.

-- name: request_evidence
-- To be collected by any worker that claims it.
INSERT INTO evidence (id, policy, service, environment, deployment_id, state, requested_at, alerts)
VALUES (:id, :policy, :service, :environment, :deployment_id, 'requested', :at, :alerts);

-- name: next_evidence_request
-- Requests that no live worker has claimed, and those of this worker, which tries again.
SELECT e.* FROM evidence AS e LEFT JOIN workers AS w ON w.id = e.worker
WHERE e.state = 'requested' AND (w.id IS NULL OR w.expires_at <= {now} OR w.id = :worker) ORDER BY e.requested_at, e.id LIMIT 1;

-- name: claim_evidence
UPDATE evidence SET worker = :worker, tries = tries + 1 WHERE id = :id;

-- name: record_evidence
-- The result. A repeated write after a crash records the same.
INSERT INTO evidence (id, execution, policy, service, environment, deployment_id, state, requested_at, alerts, kept_at,
                      location, files, missing, bytes, problem, manifest)
VALUES (:id, :execution, :policy, :service, :environment, :deployment_id, :state, :at, '[]', :at, :location, :files,
        :missing, :bytes, :problem, :manifest)
ON CONFLICT (id) DO UPDATE
SET state = excluded.state, kept_at = excluded.kept_at, location = excluded.location, files = excluded.files,
    missing = excluded.missing, bytes = excluded.bytes, problem = excluded.problem, manifest = excluded.manifest,
    worker = NULL;

-- name: evidence
SELECT * FROM evidence WHERE id = :id;

-- name: mark_evidence_deleted
UPDATE evidence SET state = 'deleted' WHERE id = :id AND state = 'kept';

-- name: evidence_needed
-- Evidence that must stay: of open rollbacks, and requests.
SELECT id FROM executions WHERE state <> 'closed' UNION SELECT id FROM evidence WHERE state = 'requested';

-- name: insert_evidence_alert
-- No row: logs were already collected for this alert.
INSERT INTO evidence_alerts (policy, service, environment, fingerprint, starts_at, evidence)
VALUES (:policy, :service, :environment, :fingerprint, :starts_at, :evidence)
ON CONFLICT DO NOTHING RETURNING evidence;

-- name: evidence_alerts_since
-- Alerts that started then or later and for which logs of the service were collected.
SELECT fingerprint, starts_at, evidence FROM evidence_alerts
WHERE policy = :policy AND service = :service AND environment = :environment AND starts_at >= :since;

-- name: last_evidence_of_policy
-- The start of the cooldown of a policy that collects logs only.
SELECT id, requested_at FROM evidence
WHERE service = :service AND environment = :environment AND policy = :policy AND execution IS NULL
ORDER BY requested_at DESC LIMIT 1;
