-- Workers and their leases.

-- name: register_worker
-- Takes the lease of a new worker.
INSERT INTO workers (id, host, started_at, expires_at) VALUES (:worker, :host, {now}, {later});

-- name: renew_lease
-- No row: the lease has expired, and another worker may have taken over.
UPDATE workers SET expires_at = {later} WHERE id = :worker AND expires_at > {now} RETURNING id;

-- name: end_lease
-- A worker that shuts down releases its lease, so that others resume its executions at once.
UPDATE workers SET expires_at = {now} WHERE id = :worker AND expires_at > {now};

-- name: end_all_leases
-- For a database that only one process can open: every earlier holder of a lease is dead.
UPDATE workers SET expires_at = {now} WHERE expires_at > {now};

-- name: forget_workers
-- Deletes workers that expired and own no open execution.
DELETE FROM workers WHERE expires_at < :before
  AND id NOT IN (SELECT worker FROM executions WHERE state <> 'closed' AND worker IS NOT NULL);
