-- Versions: status, history, requirements and client rules.

-- name: add_version
-- The first report of a version stays.
INSERT INTO versions (service, environment, version, status, reason, status_at, artifact, provenance)
VALUES (:service, :environment, :version, :status, :reason, :at, :artifact, :provenance)
ON CONFLICT (service, environment, version) DO NOTHING RETURNING version;

-- name: version_deployed
-- Updates the time of the last deployment, and fills in what the first report left out.
UPDATE versions SET
    deployed_at = :at,
    artifact = CASE WHEN artifact = '' THEN :artifact ELSE artifact END,
    provenance = CASE WHEN provenance = '' THEN :provenance ELSE provenance END
WHERE service = :service AND environment = :environment AND version = :version;

-- name: mark_version
-- Sets the status, or the reason for `no_rollback` (empty: removes it). Null keeps a value. No row: the version is
-- unknown, or its status is not `expected`.
UPDATE versions SET revision = revision + 1,
    status = coalesce(CAST(:status AS TEXT), status),
    reason = CASE WHEN CAST(:status AS TEXT) IS NULL THEN reason ELSE :reason END,
    status_at = CASE WHEN CAST(:status AS TEXT) IS NULL THEN status_at ELSE :at END,
    no_rollback = coalesce(CAST(:no_rollback AS TEXT), no_rollback)
WHERE service = :service AND environment = :environment AND version = :version
  AND (CAST(:expected AS TEXT) IS NULL OR status = :expected)
RETURNING version, revision, status, reason, no_rollback;

-- name: append_mark
INSERT INTO marks (service, environment, version, revision, at, marked_by, status, reason, no_rollback)
VALUES (:service, :environment, :version, :revision, :at, :by, :status, :reason, :no_rollback);

-- name: decrement_version_count
-- For the status before this mark. A new version had none.
UPDATE version_counts SET n = n - 1
WHERE service = :service AND environment = :environment
  AND status = (SELECT status FROM marks WHERE service = :service AND environment = :environment
                AND version = :version AND revision = :revision - 1);

-- name: increment_version_count
INSERT INTO version_counts (service, environment, status, n) VALUES (:service, :environment, :status, 1)
ON CONFLICT (service, environment, status) DO UPDATE SET n = version_counts.n + 1;

-- name: count_by_status
-- The number of versions per service and status.
SELECT service, environment, status, n FROM version_counts WHERE n > 0 ORDER BY service, environment, status;

-- name: set_running_status
-- Copies the status of a version to where it runs.
UPDATE running SET status = :status
WHERE service = :service AND environment = :environment AND version = :version AND status <> :status;

-- name: marks
-- Newest first.
SELECT * FROM marks
WHERE service = :service AND (CAST(:environment AS TEXT) IS NULL OR environment = :environment)
ORDER BY at DESC, version DESC, revision DESC LIMIT :most;

-- name: set_requirement
-- The last report stands. No row: nothing changes.
INSERT INTO requirements (service, environment, version, needs, versions, revision)
VALUES (:service, :environment, :version, :needs, :versions, 1)
ON CONFLICT (service, environment, version, needs) DO UPDATE
SET versions = excluded.versions, revision = requirements.revision + 1
WHERE requirements.versions <> excluded.versions
RETURNING revision;

-- name: append_requirement
INSERT INTO requirement_changes (service, environment, version, needs, revision, at, reported_by, versions)
VALUES (:service, :environment, :version, :needs, :revision, :at, :by, :versions);

-- name: requirement_changes
-- Newest first.
SELECT * FROM requirement_changes
WHERE service = :service AND (CAST(:environment AS TEXT) IS NULL OR environment = :environment)
ORDER BY at DESC NULLS LAST, version DESC, needs DESC, revision DESC LIMIT :most;

-- name: requirements_of
SELECT needs, versions FROM requirements
WHERE service = :service AND environment = :environment AND version = :version ORDER BY needs;

-- name: has_dependents
-- Whether any version of another service ever required this one. If not, `requirements_on` has no rows.
SELECT 1 AS yes FROM requirements WHERE environment = :environment AND needs = :needs LIMIT 1;

-- name: requirements_on
-- Running versions of other services, on a platform or as a whole, that require certain versions of this one.
SELECT service, platform, version, status, versions FROM (
    SELECT r.service, r.platform, r.version, r.status,
           (SELECT q.versions FROM requirements AS q
            WHERE q.service = r.service AND q.environment = r.environment AND q.version = r.version
              AND q.needs = :needs) AS versions
    FROM running AS r WHERE r.environment = :environment) AS found
WHERE versions IS NOT NULL ORDER BY service, platform;

-- name: protected_since
-- The latest protected version that was deployed after the target.
SELECT version, no_rollback FROM versions
WHERE service = :service AND environment = :environment AND no_rollback <> '' AND version <> :target
  AND deployed_at > (SELECT t.deployed_at FROM versions AS t
                     WHERE t.service = :service AND t.environment = :environment AND t.version = :target)
ORDER BY deployed_at DESC LIMIT 1;

-- name: version
SELECT * FROM versions WHERE service = :service AND environment = :environment AND version = :version;

-- name: versions_of_service
-- Latest status first.
SELECT * FROM versions
WHERE service = :service AND (CAST(:environment AS TEXT) IS NULL OR environment = :environment)
ORDER BY status_at DESC, version DESC LIMIT :most;

-- name: good_target
-- The rollback target: the known-good version other than the running one that was deployed last.
SELECT version, artifact, deployed_at FROM versions
WHERE service = :service AND environment = :environment AND status = 'good' AND version <> :running
  AND deployed_at IS NOT NULL
ORDER BY deployed_at DESC LIMIT 1;

-- name: targets
-- The rollback target of every service, as `good_target` selects it.
SELECT service, environment, version FROM (
    SELECT r.service, r.environment,
           (SELECT v.version FROM versions AS v
            WHERE v.service = r.service AND v.environment = r.environment AND v.status = 'good'
              AND v.version <> r.version AND v.deployed_at IS NOT NULL
            ORDER BY v.deployed_at DESC LIMIT 1) AS version
    FROM running AS r WHERE r.platform = '') AS found
WHERE version IS NOT NULL ORDER BY service, environment;

-- name: client_rules
SELECT * FROM client_rules WHERE service = :service AND environment = :environment AND platform = :platform;

-- name: set_client_rules
INSERT INTO client_rules (service, environment, platform, revision, min_version, blocked_versions, flags)
VALUES (:service, :environment, :platform, :revision, :min_version, :blocked_versions, :flags)
ON CONFLICT (service, environment, platform) DO UPDATE
SET revision = excluded.revision, min_version = excluded.min_version, blocked_versions = excluded.blocked_versions,
    flags = excluded.flags;

-- name: append_client_rules
INSERT INTO client_rule_changes (service, environment, platform, revision, at, changed_by, reason, min_version,
                                 blocked_versions, flags)
VALUES (:service, :environment, :platform, :revision, :at, :by, :reason, :min_version, :blocked_versions, :flags);

-- name: client_rule_changes
-- Newest first.
SELECT * FROM client_rule_changes
WHERE service = :service AND environment = :environment AND platform = :platform ORDER BY revision DESC LIMIT :most;
