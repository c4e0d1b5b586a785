-- The outbox, and the messages to each channel.

-- name: add_to_outbox
INSERT INTO outbox (subject, seq, stage, at) VALUES (:subject, :seq, :stage, :at) ON CONFLICT DO NOTHING;

-- name: outbox
-- Notifications that are not routed yet, oldest first.
SELECT subject, seq, stage, at FROM outbox ORDER BY at, subject, seq LIMIT :most;

-- name: delete_from_outbox
DELETE FROM outbox WHERE subject = :subject AND seq = :seq;

-- name: open_thread
INSERT INTO threads (subject, channel, due_at) VALUES (:subject, :channel, :at) ON CONFLICT DO NOTHING;

-- name: expedite_thread
UPDATE threads SET due_at = :at WHERE subject = :subject AND channel = :channel AND due_at > :at;

-- name: add_message
-- No row: the message already exists.
INSERT INTO messages (subject, channel, occasion, seq, stage, at, state, state_at)
VALUES (:subject, :channel, :occasion, :seq, :stage, :at, 'pending', :at)
ON CONFLICT DO NOTHING RETURNING occasion;

-- name: channels_due
-- Channels with a message to deliver now.
SELECT DISTINCT m.channel FROM messages AS m JOIN threads AS t ON t.subject = m.subject AND t.channel = m.channel
WHERE m.state = 'pending' AND t.due_at <= :now AND (t.claim_ends_at IS NULL OR t.claim_ends_at <= :now);

-- name: claimable_thread
-- The unclaimed thread that has waited longest.
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

-- name: thread_delivered
-- No row: the claim ended and another replica delivers it.
UPDATE threads SET reference = :reference, attempts = 0, error = '', claimed_by = NULL, claim_ends_at = NULL
WHERE subject = :subject AND channel = :channel AND claimed_by = :by RETURNING subject;

-- name: thread_failed
-- Keeps the reference, so that the next try continues where this one failed.
UPDATE threads SET reference = :reference, error = :error, error_at = :at, due_at = :due_at, claimed_by = NULL,
    claim_ends_at = NULL
WHERE subject = :subject AND channel = :channel AND claimed_by = :by RETURNING subject;

-- name: resolve_message
UPDATE messages SET state = :state, state_at = :at
WHERE subject = :subject AND channel = :channel AND occasion = :occasion AND state = 'pending';

-- name: give_up_messages
-- Messages that are too old to be useful.
UPDATE messages SET state = 'given_up', state_at = :now WHERE state = 'pending' AND at < :before
RETURNING subject, channel, stage;

-- name: release_threads
-- The dispatcher has stopped: any replica may continue.
UPDATE threads SET claimed_by = NULL, claim_ends_at = NULL
WHERE claimed_by IS NOT NULL AND (CAST(:by AS TEXT) IS NULL OR claimed_by = :by);

-- name: messages_of
SELECT m.channel, m.stage, m.seq, m.at, m.state, m.state_at, t.attempts, t.error, t.error_at FROM messages AS m
JOIN threads AS t ON t.subject = m.subject AND t.channel = m.channel
WHERE m.subject = :subject ORDER BY m.channel, m.at, m.seq, m.occasion;

-- name: undelivered
-- The pending messages of each channel, and the time of the first one.
SELECT channel, count(*) AS n, min(at) AS first_at FROM messages WHERE state = 'pending' GROUP BY channel;

-- name: given_up_since
SELECT channel, count(*) AS n FROM messages WHERE state = 'given_up' AND state_at >= :since GROUP BY channel;

-- name: last_errors
-- The latest error of each channel.
SELECT t.channel, t.error, t.error_at FROM threads AS t
WHERE t.error <> '' AND NOT EXISTS (
    SELECT 1 FROM threads AS newer
    WHERE newer.channel = t.channel AND newer.error <> ''
      AND (newer.error_at, newer.subject) > (t.error_at, t.subject));
