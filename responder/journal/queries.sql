-- Every statement of the journal, each with a name and a sentence. `:name` is a parameter; `{now}` and `{later}` are
-- the database's own clock, now and after `:lease` seconds.

-- name: register_worker
-- A boot of a worker takes its lease.
INSERT INTO workers (id, host, started_at, expires_at) VALUES (:worker, :host, {now}, {later});

-- name: renew_lease
-- Refused (no row) once it has run out: somebody may have taken over already.
UPDATE workers SET expires_at = {later} WHERE id = :worker AND expires_at > {now} RETURNING id;

-- name: end_lease
-- A worker that stops in good order lets others go on at once.
UPDATE workers SET expires_at = {now} WHERE id = :worker AND expires_at > {now};

-- name: end_all_leases
-- For a database that only one process can have open: whoever held a lease is dead.
UPDATE workers SET expires_at = {now} WHERE expires_at > {now};

-- name: forget_workers
-- Boots that ended a day ago and own nothing any more.
DELETE FROM workers WHERE expires_at < :before AND id NOT IN (SELECT worker FROM executions WHERE worker IS NOT NULL);

-- name: claimable
-- Live executions that nobody carries out: claimed by a worker whose lease has run out, or never claimed. The
-- interrupted ones come first, because a service may be halfway between two versions.
SELECT x.id, x.worker, x.resumptions, x.accepted_at FROM executions AS x
LEFT JOIN workers AS w ON w.id = x.worker
WHERE x.state IN ('accepted', 'running', 'reverting') AND (w.id IS NULL OR w.expires_at <= {now} OR w.id = :worker)
ORDER BY CASE WHEN x.worker IS NULL THEN 1 ELSE 0 END, x.accepted_at, x.id;

-- name: count_carried_out
-- How many executions are in progress. An interrupted one keeps its place, so that no new one delays its resumption.
SELECT count(*) AS n FROM executions WHERE state IN ('accepted', 'running', 'reverting') AND worker IS NOT NULL;

-- name: claim
-- The worker owns it from here on; a second claim of the same counts as a resumption.
UPDATE executions SET worker = :worker, resumptions = resumptions + :again WHERE id = :execution;

-- name: release
-- Hands an execution back, as when it waits for a human.
UPDATE executions SET worker = NULL WHERE id = :execution AND worker = :worker;

-- name: insert_execution
-- Refused (no row) where the service has a live or stuck rollback.
INSERT INTO executions (id, service, environment, policy, strategy, from_version, to_version, requested_by, state,
                        reason, seq, onset_at, firing_at, accepted_at, changed)
VALUES (:id, :service, :environment, :policy, :strategy, :from_version, :to_version, :requested_by, 'accepted',
        :reason, 0, :onset_at, :firing_at, :accepted_at, FALSE)
ON CONFLICT DO NOTHING RETURNING id;

-- name: insert_part
-- Refused (no row) where the service has a live or stuck rollback.
INSERT INTO parts (execution, service, environment, strategy, from_version, to_version, accepted_at, live)
VALUES (:execution, :service, :environment, :strategy, :from_version, :to_version, :accepted_at, TRUE)
ON CONFLICT DO NOTHING RETURNING service;

-- name: let_go
-- A rollback that is closed keeps no service from the next one.
UPDATE parts SET live = FALSE WHERE execution = :execution;

-- name: insert_episode
-- Refused (no row) where this alert instance has opened a rollback from this deployment already.
INSERT INTO episodes (policy, service, environment, fingerprint, starts_at, deployed_at, execution,
                      alertname, labels, summary, generator_url)
VALUES (:policy, :service, :environment, :fingerprint, :starts_at, :deployed_at, :execution,
        :alertname, :labels, :summary, :generator_url)
ON CONFLICT DO NOTHING RETURNING execution;

-- name: episodes_since
-- Alert instances, begun then or later, that have opened a rollback of the service.
SELECT fingerprint, starts_at, deployed_at, execution FROM episodes
WHERE policy = :policy AND service = :service AND environment = :environment AND starts_at >= :since AND NOT released;

-- name: release_episodes
-- The alerts of a rollback that changed nothing may open another one.
UPDATE episodes SET released = TRUE WHERE execution = :execution;

-- name: append_event
-- The fence: refused (no row) where somebody has written this number before us.
INSERT INTO events (execution, seq, at, type, state, step, title, note, body)
VALUES (:execution, :seq, :at, :type, :state, :step, :title, :note, :body)
ON CONFLICT DO NOTHING RETURNING seq;

-- name: project_execution
-- What the events add up to, in the same transaction. Refused (no row) where another worker owns it.
UPDATE executions SET state = :state, outcome = :outcome, reason = :reason, seq = :seq, changed = :changed,
    plan_hash = :plan_hash, acted_at = coalesce(acted_at, :acted_at), ended_at = :ended_at, duration_seconds = :duration
WHERE id = :id AND (CAST(:worker AS TEXT) IS NULL OR worker = :worker) RETURNING id;

-- name: events_of
SELECT body FROM events WHERE execution = :execution ORDER BY seq;

-- name: events_after
-- What happened since a listener heard last.
SELECT body FROM events WHERE execution = :execution AND seq > :seq ORDER BY seq LIMIT :most;

-- name: heads
-- How far every execution has come that is not over, or that was accepted since then.
SELECT id, seq, ended_at FROM executions WHERE state <> 'closed' OR accepted_at >= :since;

-- name: ended_since
-- What a listener that was away may have missed the end of.
SELECT id FROM executions WHERE ended_at >= :since ORDER BY ended_at LIMIT :most;
-- name: first_event
SELECT body FROM events WHERE execution = :execution AND seq = 0;

-- name: execution_row
SELECT * FROM executions WHERE id = :id;

-- name: executions
-- History, newest first.
SELECT * FROM executions
WHERE (CAST(:service AS TEXT) IS NULL OR id IN (SELECT execution FROM parts WHERE service = :service)) AND (CAST(:state AS TEXT) IS NULL OR state = :state)
  AND (CAST(:since AS TIMESTAMPTZ) IS NULL OR accepted_at >= :since)
  AND ((CAST(:services AS TEXT) IS NULL AND CAST(:environments AS TEXT) IS NULL) OR NOT EXISTS (
    SELECT 1 FROM parts AS p WHERE p.execution = executions.id
      AND (replace(CAST(:services AS TEXT), '|' || p.service || '|', '') = :services
           OR replace(CAST(:environments AS TEXT), '|' || p.environment || '|', '') = :environments)))
ORDER BY accepted_at DESC, id DESC LIMIT :most;

-- name: open_executions
-- All that is live, held or stuck, with what is asked of it.
SELECT * FROM executions WHERE state <> 'closed' ORDER BY accepted_at, id;

-- name: latest_of_service
-- The newest rollback of a service: where one is live or stuck, it is this one.
SELECT x.id, x.policy, x.state, x.outcome, p.from_version, p.to_version, x.changed, x.ended_at, x.reason
FROM parts AS p JOIN executions AS x ON x.id = p.execution
WHERE p.service = :service AND p.environment = :environment ORDER BY p.accepted_at DESC, x.id DESC LIMIT 1;

-- name: last_ended
-- The newest rollback of a service that is over.
SELECT * FROM executions WHERE service = :service AND environment = :environment AND state = 'closed'
ORDER BY accepted_at DESC, id DESC LIMIT 1;

-- name: last_of_policy
-- The rollback from whose end the policy's cooldown is counted.
SELECT x.id, x.policy, x.state, x.outcome, p.from_version, p.to_version, x.changed, x.ended_at, x.reason
FROM parts AS p JOIN executions AS x ON x.id = p.execution
WHERE p.service = :service AND p.environment = :environment AND x.policy = :policy AND x.ended_at IS NOT NULL AND x.changed
ORDER BY x.ended_at DESC LIMIT 1;

-- name: rollback_of_version
-- The rollback of this version that there was before, however long ago, or that a person stopped by name.
SELECT x.id, x.policy, x.state, x.outcome, p.from_version, p.to_version, x.changed, x.ended_at, x.reason, x.stop_by
FROM parts AS p JOIN executions AS x ON x.id = p.execution
WHERE p.service = :service AND p.environment = :environment AND p.from_version = :version
  AND (x.changed OR (x.outcome = 'cancelled' AND x.stop_by IS NOT NULL))
ORDER BY p.accepted_at DESC LIMIT 1;

-- name: last_ends
-- When each policy last finished on each service: what its cooldown is counted from.
SELECT x.policy, p.service, p.environment, max(x.ended_at) AS ended_at
FROM parts AS p JOIN executions AS x ON x.id = p.execution
WHERE x.ended_at IS NOT NULL AND x.changed GROUP BY x.policy, p.service, p.environment;

-- name: begun_since
-- Rollbacks that were begun since then and did something, or still may; and when the first of them was.
SELECT count(*) AS n, min(accepted_at) AS first_at FROM executions
WHERE accepted_at >= :since AND (changed OR state <> 'closed');

-- name: ask_to_stop
-- Only what is under way or waiting can be stopped; the first who asks is on record.
UPDATE executions SET stop_by = coalesce(stop_by, :by), stop_reason = coalesce(stop_reason, :reason)
WHERE id = :id AND state IN ('accepted', 'awaiting_approval', 'running') RETURNING id;

-- name: stop_asked
SELECT stop_by, stop_reason FROM executions WHERE id = :id AND stop_by IS NOT NULL;

-- name: throw_switch
INSERT INTO switches (name, thrown_by, reason, at) VALUES (:name, :by, :reason, :at)
ON CONFLICT (name) DO UPDATE SET thrown_by = excluded.thrown_by, reason = excluded.reason, at = excluded.at;

-- name: release_switch
DELETE FROM switches WHERE name = :name RETURNING name;

-- name: switch
SELECT thrown_by, reason, at FROM switches WHERE name = :name;

-- name: hear
INSERT INTO heard (name, at) VALUES (:name, :at)
ON CONFLICT (name) DO UPDATE SET at = excluded.at WHERE heard.at < excluded.at;

-- name: heard
SELECT at FROM heard WHERE name = :name;

-- name: record_decision
-- The same result on the same incident is counted once more, with its newest reason.
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
SELECT * FROM decisions
WHERE (CAST(:service AS TEXT) IS NULL OR service = :service) AND (CAST(:since AS TIMESTAMPTZ) IS NULL OR last_at >= :since)
  AND (CAST(:services AS TEXT) IS NULL OR replace(CAST(:services AS TEXT), '|' || service || '|', '') <> :services)
  AND (CAST(:environments AS TEXT) IS NULL
       OR replace(CAST(:environments AS TEXT), '|' || environment || '|', '') <> :environments)
ORDER BY last_at DESC, id DESC LIMIT :most;

-- name: refused_since
-- Alerts that wanted a rollback and did not get it, newest first; that one was opened already is no refusal.
SELECT service, environment, guard, reason, last_at FROM decisions
WHERE result = 'deny' AND guard <> 'duplicate_alert' AND NOT forced AND last_at >= :since ORDER BY last_at DESC LIMIT :most;

-- name: decided_since
-- What was decided about rollbacks since then, newest first.
SELECT service, environment, policy, result, guard, needs_human FROM decisions
WHERE last_at >= :since AND action = 'roll_back' AND result <> 'ignore' ORDER BY last_at DESC LIMIT :most;

-- name: decided_lately
-- The same with all that each rests on, but what a person asked for; and what became of the rollback that it led to.
SELECT d.incident, d.result, d.guard, d.last_at, d.body, x.outcome, x.ended_at
FROM decisions AS d LEFT JOIN executions AS x ON x.id = d.execution
WHERE d.last_at >= :since AND d.action = 'roll_back' AND d.result <> 'ignore' AND NOT d.forced
ORDER BY d.last_at DESC LIMIT :most;

-- name: decisions_of_execution
SELECT * FROM decisions WHERE execution = :execution ORDER BY at;

-- name: first_heard
-- When an incident was judged for the first time.
SELECT min(at) AS at FROM decisions WHERE incident = :incident;

-- name: trouble_returned
-- Only of an incident whose trouble was not visible once: when it was judged first since then; null: not yet.
SELECT (SELECT min(d.at) FROM decisions AS d WHERE d.incident = gone.incident AND d.at > gone.last_at) AS at
FROM decisions AS gone
WHERE gone.incident = :incident AND gone.result = 'deny' AND gone.guard = 'trouble_now';

-- name: in_trouble
-- Other services of the environment for which an alert wanted a rollback for the first time between these moments.
SELECT DISTINCT d.service FROM decisions AS d
WHERE d.environment = :environment AND d.at BETWEEN :since AND :until AND d.service <> :service AND NOT d.forced
  AND d.result <> 'ignore' AND d.guard <> 'service_configured' AND d.action = 'roll_back'
  AND NOT EXISTS (SELECT 1 FROM decisions AS earlier WHERE earlier.incident = d.incident AND earlier.at < :since);

-- name: troubled
-- How many services of each environment alerts wanted a rollback for, for the first time since then.
SELECT d.environment, count(DISTINCT d.service) AS n FROM decisions AS d
WHERE d.last_at >= :since AND d.at >= :since AND NOT d.forced AND d.result <> 'ignore' AND d.guard <> 'service_configured'
  AND d.action = 'roll_back'
  AND NOT EXISTS (SELECT 1 FROM decisions AS earlier WHERE earlier.incident = d.incident AND earlier.at < :since)
GROUP BY d.environment;

-- name: observed
-- How often each policy would have acted, had it not been in observe mode.
SELECT policy, count(*) AS n, min(at) AS first_at, max(last_at) AS last_at FROM decisions
WHERE guard = 'mode' AND result = 'deny' GROUP BY policy;

-- name: trouble_since
-- Whether a rollback-worthy alert was judged for this service since then, by that policy or any: such a version has not earned to be good.
SELECT id FROM decisions
WHERE service = :service AND environment = :environment AND last_at >= :since AND result <> 'ignore' AND NOT forced
  AND action = 'roll_back' AND (CAST(:policy AS TEXT) IS NULL OR policy = :policy)
LIMIT 1;

-- name: want_evidence
-- To be kept by whichever worker takes it.
INSERT INTO evidence (id, policy, service, environment, deployment_id, state, asked_at, alerts)
VALUES (:id, :policy, :service, :environment, :deployment_id, 'wanted', :at, :alerts);

-- name: wanted_evidence
-- What nobody keeps: never taken, or taken by a worker whose lease has run out; or by this one, which tries again.
SELECT e.* FROM evidence AS e LEFT JOIN workers AS w ON w.id = e.worker
WHERE e.state = 'wanted' AND (w.id IS NULL OR w.expires_at <= {now} OR w.id = :worker) ORDER BY e.asked_at, e.id LIMIT 1;

-- name: take_evidence
UPDATE evidence SET worker = :worker, tries = tries + 1 WHERE id = :id;

-- name: evidence_done
-- What became of it. Written again after a crash, it says the same.
INSERT INTO evidence (id, execution, policy, service, environment, deployment_id, state, asked_at, alerts, kept_at,
                      location, files, missing, bytes, problem, manifest)
VALUES (:id, :execution, :policy, :service, :environment, :deployment_id, :state, :at, '[]', :at, :location, :files,
        :missing, :bytes, :problem, :manifest)
ON CONFLICT (id) DO UPDATE
SET state = excluded.state, kept_at = excluded.kept_at, location = excluded.location, files = excluded.files,
    missing = excluded.missing, bytes = excluded.bytes, problem = excluded.problem, manifest = excluded.manifest,
    worker = NULL;

-- name: evidence
SELECT * FROM evidence WHERE id = :id;

-- name: evidence_deleted
UPDATE evidence SET state = 'deleted' WHERE id = :id AND state = 'kept';

-- name: open_execution_ids
-- Read by commands beside a running responder.
SELECT id FROM executions WHERE state <> 'closed';

-- name: evidence_needed
-- Whose evidence must stay: of rollbacks that are not closed, and what is still to be kept.
SELECT id FROM executions WHERE state <> 'closed' UNION SELECT id FROM evidence WHERE state = 'wanted';

-- name: insert_evidence_episode
-- Refused (no row) where this alert instance had logs kept already.
INSERT INTO evidence_episodes (policy, service, environment, fingerprint, starts_at, evidence)
VALUES (:policy, :service, :environment, :fingerprint, :starts_at, :evidence)
ON CONFLICT DO NOTHING RETURNING evidence;

-- name: evidence_episodes_since
-- Alert instances, begun then or later, for which logs of the service were kept.
SELECT fingerprint, starts_at, evidence FROM evidence_episodes
WHERE policy = :policy AND service = :service AND environment = :environment AND starts_at >= :since;

-- name: last_evidence_of_policy
-- What its cooldown is counted from where a policy keeps logs by themselves.
SELECT id, asked_at FROM evidence
WHERE service = :service AND environment = :environment AND policy = :policy AND execution IS NULL
ORDER BY asked_at DESC LIMIT 1;

-- name: insert_deployment
-- Refused (no row) where this deployment was told before.
INSERT INTO deployed (id, service, environment, version, artifact, provenance, at, reported_at, recorded_by,
                      rolled_back_by)
VALUES (:id, :service, :environment, :version, :artifact, :provenance, :at, :reported_at, :by, :rolled_back_by)
ON CONFLICT DO NOTHING RETURNING id;

-- name: insert_artifact
-- Refused (no row) where this deployment on this platform was told before.
INSERT INTO artifacts (id, service, environment, platform, version, artifact, provenance, at, reported_at, recorded_by,
                       rolled_back_by)
VALUES (:id, :service, :environment, :platform, :version, :artifact, :provenance, :at, :reported_at, :by,
        :rolled_back_by)
ON CONFLICT DO NOTHING RETURNING id;

-- name: newest_at
-- When a version of the service was deployed last, as a whole or on any platform.
SELECT max(at) AS at FROM running WHERE service = :service AND environment = :environment;

-- name: runs_now
-- What is recorded last runs.
INSERT INTO running (service, environment, platform, id, version, artifact, provenance, at, recorded_by, rolled_back_by,
                     status)
SELECT service, environment, :platform, :id, version, :artifact, :provenance, :at, :by, :rolled_back_by, status
FROM versions WHERE service = :service AND environment = :environment AND version = :version
ON CONFLICT (service, environment, platform) DO UPDATE
SET id = excluded.id, version = excluded.version, artifact = excluded.artifact, provenance = excluded.provenance,
    at = excluded.at, recorded_by = excluded.recorded_by, rolled_back_by = excluded.rolled_back_by,
    status = excluded.status;

-- name: deployment
SELECT * FROM deployed WHERE id = :id;

-- name: deployment_on
SELECT * FROM artifacts WHERE service = :service AND environment = :environment AND platform = :platform AND id = :id;

-- name: deployments
-- Newest first.
SELECT * FROM deployed ORDER BY at DESC, id DESC LIMIT :most;

-- name: deployments_in
-- Those of one environment, newest first.
SELECT * FROM deployed WHERE environment = :environment ORDER BY at DESC, id DESC LIMIT :most;

-- name: deployments_of
-- Those of one service, newest first.
SELECT * FROM deployed WHERE service = :service AND environment = :environment ORDER BY at DESC, id DESC LIMIT :most;

-- name: environments_of
-- Where a service was ever deployed.
SELECT environment FROM running WHERE service = :service AND platform = '' ORDER BY environment;

-- name: newest_deployment
SELECT * FROM running WHERE service = :service AND environment = :environment AND platform = :platform;

-- name: version_runs_since
-- The first of the newest deployments that are all of this version.
SELECT min(at) AS at, max(rolled_back_by) AS rolled_back_by FROM deployed
WHERE service = :service AND environment = :environment AND version = :version
  AND at > coalesce((SELECT max(other.at) FROM deployed AS other
                     WHERE other.service = :service AND other.environment = :environment AND other.version <> :version),
                    CAST('1970-01-01T00:00:00.000000+00:00' AS TIMESTAMPTZ));

-- name: replaced_version
-- The version that the running one replaced; no row unless the replaced one is the younger of the two.
SELECT v.version, v.status, v.deployed_at AS at FROM versions AS v
WHERE v.service = :service AND v.environment = :environment
  AND v.version = (SELECT p.version FROM deployed AS p
                   WHERE p.service = :service AND p.environment = :environment AND p.version <> :version AND p.at <= :at
                   ORDER BY p.at DESC, p.id DESC LIMIT 1)
  AND (SELECT min(d.at) FROM deployed AS d
       WHERE d.service = :service AND d.environment = :environment AND d.version = v.version)
    > (SELECT min(d.at) FROM deployed AS d
       WHERE d.service = :service AND d.environment = :environment AND d.version = :version);

-- name: verified_before
-- When the last rollback of the service between these moments was verified: the service was healthy then.
SELECT max(x.ended_at) AS at FROM parts AS p JOIN executions AS x ON x.id = p.execution
WHERE p.service = :service AND p.environment = :environment AND x.outcome = 'succeeded'
  AND x.ended_at BETWEEN :since AND :until;

-- name: running
-- The newest deployment of every service.
SELECT * FROM running WHERE platform = '' ORDER BY service, environment;

-- name: running_candidates
-- The newest deployments whose version has not shown yet what it is.
SELECT * FROM running WHERE platform = '' AND status = 'candidate' ORDER BY service, environment;

-- name: running_on_platforms
SELECT * FROM running
WHERE service = :service AND environment = :environment AND platform <> '' ORDER BY platform;

-- name: artifacts_of_version
-- What the version is made of on each platform; what was told last is the last.
SELECT platform, artifact FROM artifacts
WHERE service = :service AND environment = :environment AND version = :version ORDER BY platform, at, id;

-- name: reached
-- Whether the version was on this platform before.
SELECT id FROM artifacts
WHERE service = :service AND environment = :environment AND version = :version AND platform = :platform LIMIT 1;

-- name: versions_of_platform
-- Each version as it was told last for this platform, newest first.
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
-- Known good, not the one that runs there, and of those the ones that reached the platform last.
SELECT v.version FROM artifacts AS a
JOIN versions AS v ON v.service = a.service AND v.environment = a.environment AND v.version = a.version
WHERE a.service = :service AND a.environment = :environment AND a.platform = :platform
  AND v.status = 'good' AND v.version <> :running
ORDER BY a.at DESC, a.id DESC LIMIT :most;

-- name: add_version
-- What was told of it first stands.
INSERT INTO versions (service, environment, version, status, reason, status_at, artifact, provenance)
VALUES (:service, :environment, :version, :status, :reason, :at, :artifact, :provenance)
ON CONFLICT (service, environment, version) DO NOTHING RETURNING version;

-- name: version_deployed
-- When it was deployed last; what nobody told when it was told first is filled in.
UPDATE versions SET
    deployed_at = :at,
    artifact = CASE WHEN artifact = '' THEN :artifact ELSE artifact END,
    provenance = CASE WHEN provenance = '' THEN :provenance ELSE provenance END
WHERE service = :service AND environment = :environment AND version = :version;

-- name: mark_version
-- Its status is changed, or why it must not be rolled back past (empty lifts it); what is null stays. Refused (no row)
-- where it is known as something else than `was` by now.
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

-- name: one_less
-- Of the status that a version had before this mark; of a new one, none.
UPDATE version_counts SET n = n - 1
WHERE service = :service AND environment = :environment
  AND status = (SELECT status FROM marks WHERE service = :service AND environment = :environment
                AND version = :version AND revision = :revision - 1);

-- name: one_more
INSERT INTO version_counts (service, environment, status, n) VALUES (:service, :environment, :status, 1)
ON CONFLICT (service, environment, status) DO UPDATE SET n = version_counts.n + 1;

-- name: count_by_status
-- How many versions of every service there are of each status.
SELECT service, environment, status, n FROM version_counts WHERE n > 0 ORDER BY service, environment, status;

-- name: running_known_as
-- What is known of a version is known of it where it runs.
UPDATE running SET status = :status
WHERE service = :service AND environment = :environment AND version = :version AND status <> :status;

-- name: marks
-- What was said of the versions of a service, newest first.
SELECT * FROM marks
WHERE service = :service AND (CAST(:environment AS TEXT) IS NULL OR environment = :environment)
ORDER BY at DESC, version DESC, revision DESC LIMIT :most;

-- name: set_requirement
-- What was told last stands. Refused (no row) where that is so already.
INSERT INTO requirements (service, environment, version, needs, versions, revision)
VALUES (:service, :environment, :version, :needs, :versions, 1)
ON CONFLICT (service, environment, version, needs) DO UPDATE
SET versions = excluded.versions, revision = requirements.revision + 1
WHERE requirements.versions <> excluded.versions
RETURNING revision;

-- name: append_requirement
INSERT INTO requirement_changes (service, environment, version, needs, revision, at, told_by, versions)
VALUES (:service, :environment, :version, :needs, :revision, :at, :by, :versions);

-- name: requirement_changes
-- What the versions of a service were told to work with, newest first.
SELECT * FROM requirement_changes
WHERE service = :service AND (CAST(:environment AS TEXT) IS NULL OR environment = :environment)
ORDER BY at DESC NULLS LAST, version DESC, needs DESC, revision DESC LIMIT :most;

-- name: requirements_of
SELECT needs, versions FROM requirements
WHERE service = :service AND environment = :environment AND version = :version ORDER BY needs;

-- name: is_needed
-- Whether any version of another service ever needed a version of this one; where none did, nothing else is looked through.
SELECT 1 AS yes FROM requirements WHERE environment = :environment AND needs = :needs LIMIT 1;

-- name: requirements_on
-- Which versions of other services that run, on one of their platforms or as a whole, need a version of this one.
SELECT service, platform, version, status, versions FROM (
    SELECT r.service, r.platform, r.version, r.status,
           (SELECT q.versions FROM requirements AS q
            WHERE q.service = r.service AND q.environment = r.environment AND q.version = r.version
              AND q.needs = :needs) AS versions
    FROM running AS r WHERE r.environment = :environment) AS found
WHERE versions IS NOT NULL ORDER BY service, platform;

-- name: no_rollback_since
-- A version that must not be rolled back past and was deployed after the target was, the newest of them.
SELECT version, no_rollback FROM versions
WHERE service = :service AND environment = :environment AND no_rollback <> '' AND version <> :target
  AND deployed_at > (SELECT t.deployed_at FROM versions AS t
                     WHERE t.service = :service AND t.environment = :environment AND t.version = :target)
ORDER BY deployed_at DESC LIMIT 1;

-- name: version
SELECT * FROM versions WHERE service = :service AND environment = :environment AND version = :version;

-- name: versions_of_service
-- Newest status first.
SELECT * FROM versions
WHERE service = :service AND (CAST(:environment AS TEXT) IS NULL OR environment = :environment)
ORDER BY status_at DESC, version DESC LIMIT :most;

-- name: good_target
-- The version to go back to: known good, not the running one, and of those the one that was deployed last.
SELECT version, artifact, deployed_at FROM versions
WHERE service = :service AND environment = :environment AND status = 'good' AND version <> :running
  AND deployed_at IS NOT NULL
ORDER BY deployed_at DESC LIMIT 1;

-- name: targets
-- Of every service the version that it would be rolled back to, as `good_target` chooses it.
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

-- name: count_by_outcome
SELECT outcome, count(*) AS n FROM executions
WHERE (CAST(:service AS TEXT) IS NULL OR service = :service) AND (CAST(:environment AS TEXT) IS NULL OR environment = :environment)
GROUP BY outcome;

-- name: put_into_outbox
INSERT INTO outbox (subject, seq, stage, at) VALUES (:subject, :seq, :stage, :at) ON CONFLICT DO NOTHING;

-- name: outbox
-- What nobody has looked at yet, in order.
SELECT subject, seq, stage, at FROM outbox ORDER BY at, subject, seq LIMIT :most;

-- name: take_from_outbox
DELETE FROM outbox WHERE subject = :subject AND seq = :seq;

-- name: open_thread
INSERT INTO threads (subject, channel, due_at) VALUES (:subject, :channel, :at) ON CONFLICT DO NOTHING;

-- name: hurry_thread
UPDATE threads SET due_at = :at WHERE subject = :subject AND channel = :channel AND due_at > :at;

-- name: add_message
-- Refused (no row) where it is there already.
INSERT INTO messages (subject, channel, occasion, seq, stage, at, state, state_at)
VALUES (:subject, :channel, :occasion, :seq, :stage, :at, 'pending', :at)
ON CONFLICT DO NOTHING RETURNING occasion;

-- name: channels_due
-- The channels for which there is something to do now.
SELECT DISTINCT m.channel FROM messages AS m JOIN threads AS t ON t.subject = m.subject AND t.channel = m.channel
WHERE m.state = 'pending' AND t.due_at <= :now AND (t.claim_ends_at IS NULL OR t.claim_ends_at <= :now);

-- name: claimable_thread
-- The one that has waited longest and that nobody tells now.
SELECT t.subject, t.reference, t.attempts FROM threads AS t
JOIN messages AS m ON m.subject = t.subject AND m.channel = t.channel AND m.state = 'pending'
WHERE t.channel = :channel AND t.due_at <= :now AND (t.claim_ends_at IS NULL OR t.claim_ends_at <= :now)
ORDER BY t.attempts, m.at, t.subject LIMIT 1;

-- name: claim_thread
UPDATE threads SET claimed_by = :by, claim_ends_at = :until, attempts = attempts + 1
WHERE subject = :subject AND channel = :channel;

-- name: pending_messages
SELECT occasion, seq, stage, at FROM messages
WHERE subject = :subject AND channel = :channel AND state = 'pending' ORDER BY seq, at, occasion;

-- name: thread_told
-- Refused (no row) where it took so long that somebody else tells it by now.
UPDATE threads SET reference = :reference, attempts = 0, error = '', claimed_by = NULL, claim_ends_at = NULL
WHERE subject = :subject AND channel = :channel AND claimed_by = :by RETURNING subject;

-- name: thread_failed
-- What was won before it failed is kept: the next try goes on from there.
UPDATE threads SET reference = :reference, error = :error, error_at = :at, due_at = :due_at, claimed_by = NULL,
    claim_ends_at = NULL
WHERE subject = :subject AND channel = :channel AND claimed_by = :by RETURNING subject;

-- name: settle_message
UPDATE messages SET state = :state, state_at = :at
WHERE subject = :subject AND channel = :channel AND occasion = :occasion AND state = 'pending';

-- name: give_up_messages
-- What could not be told for so long that nobody needs it any more.
UPDATE messages SET state = 'given_up', state_at = :now WHERE state = 'pending' AND at < :before
RETURNING subject, channel, stage;

-- name: release_threads
-- Whoever told them has stopped: anybody may go on at once.
UPDATE threads SET claimed_by = NULL, claim_ends_at = NULL
WHERE claimed_by IS NOT NULL AND (CAST(:by AS TEXT) IS NULL OR claimed_by = :by);

-- name: messages_of
SELECT m.channel, m.stage, m.seq, m.at, m.state, m.state_at, t.attempts, t.error, t.error_at FROM messages AS m
JOIN threads AS t ON t.subject = m.subject AND t.channel = m.channel
WHERE m.subject = :subject ORDER BY m.channel, m.at, m.seq, m.occasion;

-- name: undelivered
-- What each channel has not been told, and since when.
SELECT channel, count(*) AS n, min(at) AS first_at FROM messages WHERE state = 'pending' GROUP BY channel;

-- name: given_up_since
SELECT channel, count(*) AS n FROM messages WHERE state = 'given_up' AND state_at >= :since GROUP BY channel;

-- name: last_errors
-- The newest error of each channel that something is or was undelivered of.
SELECT t.channel, t.error, t.error_at FROM threads AS t
WHERE t.error <> '' AND NOT EXISTS (
    SELECT 1 FROM threads AS newer
    WHERE newer.channel = t.channel AND newer.error <> ''
      AND (newer.error_at, newer.subject) > (t.error_at, t.subject));

-- name: decision
SELECT * FROM decisions WHERE id = :id;

-- name: decision_of_execution
SELECT body FROM decisions WHERE execution = :execution ORDER BY at LIMIT 1;

-- name: date_alert
-- When an alert without a time of its own began: the first time it was sent since it last ended.
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
