-- Deployments, and which versions run.

-- name: insert_deployment
-- No row: the deployment was reported before.
INSERT INTO recorded_deployments (id, service, environment, version, artifact, provenance, at, reported_at, recorded_by,
                      rolled_back_by)
VALUES (:id, :service, :environment, :version, :artifact, :provenance, :at, :reported_at, :by, :rolled_back_by)
ON CONFLICT DO NOTHING RETURNING id;

-- name: insert_artifact
-- No row: this deployment on this platform was reported before.
INSERT INTO artifacts (id, service, environment, platform, version, artifact, provenance, at, reported_at, recorded_by,
                       rolled_back_by)
VALUES (:id, :service, :environment, :platform, :version, :artifact, :provenance, :at, :reported_at, :by,
        :rolled_back_by)
ON CONFLICT DO NOTHING RETURNING id;

-- name: latest_deployment_at
-- When a version of the service was deployed last, as a whole or on any platform.
SELECT max(at) AS at FROM running WHERE service = :service AND environment = :environment;

-- name: set_running
-- The last recorded deployment is the running one.
INSERT INTO running (service, environment, platform, id, version, artifact, provenance, at, recorded_by, rolled_back_by,
                     status)
SELECT service, environment, :platform, :id, version, :artifact, :provenance, :at, :by, :rolled_back_by, status
FROM versions WHERE service = :service AND environment = :environment AND version = :version
ON CONFLICT (service, environment, platform) DO UPDATE
SET id = excluded.id, version = excluded.version, artifact = excluded.artifact, provenance = excluded.provenance,
    at = excluded.at, recorded_by = excluded.recorded_by, rolled_back_by = excluded.rolled_back_by,
    status = excluded.status;

-- name: deployment
SELECT * FROM recorded_deployments WHERE id = :id;

-- name: platform_deployment
SELECT * FROM artifacts WHERE service = :service AND environment = :environment AND platform = :platform AND id = :id;

-- name: deployments
-- Newest first.
SELECT * FROM recorded_deployments ORDER BY at DESC, id DESC LIMIT :most;

-- name: deployments_in
-- Of one environment, newest first.
SELECT * FROM recorded_deployments WHERE environment = :environment ORDER BY at DESC, id DESC LIMIT :most;

-- name: deployments_of
-- Of one service, newest first.
SELECT * FROM recorded_deployments WHERE service = :service AND environment = :environment ORDER BY at DESC, id DESC LIMIT :most;

-- name: environments_of
-- Where the service was ever deployed.
SELECT environment FROM running WHERE service = :service AND platform = '' ORDER BY environment;

-- name: running_deployment
SELECT * FROM running WHERE service = :service AND environment = :environment AND platform = :platform;

-- name: version_runs_since
-- The first of the latest consecutive deployments of this version.
SELECT min(at) AS at, max(rolled_back_by) AS rolled_back_by FROM recorded_deployments
WHERE service = :service AND environment = :environment AND version = :version
  AND at > coalesce((SELECT max(other.at) FROM recorded_deployments AS other
                     WHERE other.service = :service AND other.environment = :environment AND other.version <> :version),
                    CAST('1970-01-01T00:00:00.000000+00:00' AS TIMESTAMPTZ));

-- name: replaced_version
-- The version that the running one replaced. No row unless it was first deployed later than the running one.
SELECT v.version, v.status, v.deployed_at AS at FROM versions AS v
WHERE v.service = :service AND v.environment = :environment
  AND v.version = (SELECT p.version FROM recorded_deployments AS p
                   WHERE p.service = :service AND p.environment = :environment AND p.version <> :version AND p.at <= :at
                   ORDER BY p.at DESC, p.id DESC LIMIT 1)
  AND (SELECT min(d.at) FROM recorded_deployments AS d
       WHERE d.service = :service AND d.environment = :environment AND d.version = v.version)
    > (SELECT min(d.at) FROM recorded_deployments AS d
       WHERE d.service = :service AND d.environment = :environment AND d.version = :version);

-- name: running
-- The latest deployment of every service.
SELECT * FROM running WHERE platform = '' ORDER BY service, environment;

-- name: running_candidates
-- Those whose version is a candidate.
SELECT * FROM running WHERE platform = '' AND status = 'candidate' ORDER BY service, environment;

-- name: running_on_platforms
SELECT * FROM running
WHERE service = :service AND environment = :environment AND platform <> '' ORDER BY platform;

-- name: artifacts_of_version
-- The artifact of the version on each platform, oldest report first.
SELECT platform, artifact FROM artifacts
WHERE service = :service AND environment = :environment AND version = :version ORDER BY platform, at, id;

-- name: reached_platform
-- Whether the version was on this platform before.
SELECT id FROM artifacts
WHERE service = :service AND environment = :environment AND version = :version AND platform = :platform LIMIT 1;

-- name: versions_of_platform
-- The latest report of each version for this platform, newest first.
SELECT v.version, v.status, v.reason, v.status_at, v.no_rollback, v.revision, a.artifact, a.provenance,
       a.at AS deployed_at, a.recorded_by
FROM artifacts AS a
JOIN versions AS v ON v.service = a.service AND v.environment = a.environment AND v.version = a.version
WHERE a.service = :service AND a.environment = :environment AND a.platform = :platform
  AND NOT EXISTS (
    SELECT 1 FROM artifacts AS newer
    WHERE newer.service = a.service AND newer.environment = a.environment AND newer.version = a.version
      AND newer.platform = a.platform AND (newer.at, newer.id) > (a.at, a.id))
ORDER BY a.at DESC, a.id DESC LIMIT :most;

-- name: good_on_platform
-- Known-good versions other than the running one, the ones that reached the platform last first.
SELECT v.version FROM artifacts AS a
JOIN versions AS v ON v.service = a.service AND v.environment = a.environment AND v.version = a.version
WHERE a.service = :service AND a.environment = :environment AND a.platform = :platform
  AND v.status = 'good' AND v.version <> :running
ORDER BY a.at DESC, a.id DESC LIMIT :most;
