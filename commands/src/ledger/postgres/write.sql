-- Everything that a batch writes, in one statement: entries, heads, answers, and the word that there is more. It undoes
-- itself where a head does not stand where the batch was stamped to follow it, or has moved to another database.
WITH recorded AS (
    INSERT INTO cnc.events (company, position, sequence, at, aggregate_id, event_type, event_version, hash,
                            metadata, payload)
    SELECT e.company::uuid, e.position, e.sequence, e.at, e.aggregate_id, e.event_type, e.event_version, e.hash,
           e.metadata::json, e.payload::json
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[],
                $8::bytea[], $9::text[], $10::text[])
         AS e (company, position, sequence, at, aggregate_id, event_type, event_version, hash, metadata, payload)
), heads_after (company, position, at, hash, before, hash_before) AS (
    SELECT h.company::uuid, h.position, h.at, h.hash, h.before, h.hash_before
    FROM unnest($11::text[], $12::bigint[], $13::bigint[], $14::bytea[], $15::bigint[], $16::bytea[])
         AS h (company, position, at, hash, before, hash_before)
), founded AS (
    INSERT INTO cnc.heads (company, position, at, hash)
    SELECT h.company, h.position, h.at, h.hash FROM heads_after AS h WHERE h.before IS NULL
    RETURNING 1
), moved AS (
    UPDATE cnc.heads SET position = h.position, at = h.at, hash = h.hash
    FROM heads_after AS h
    WHERE heads.company = h.company AND heads.position = h.before AND heads.hash = h.hash_before
        AND heads.moved_to IS NULL
    RETURNING 1
), remembered AS (
    INSERT INTO cnc.commands (id, company, at, for_ever, fingerprint, answer)
    SELECT c.id::uuid, c.company::uuid, c.at, c.for_ever, c.fingerprint, c.answer
    FROM unnest($17::text[], $18::bigint[], $19::bool[], $20::bytea[], $21::text[],
                $22::text[])
         AS c (id, at, for_ever, fingerprint, answer, company)
)
SELECT CASE WHEN (SELECT count(*) FROM founded) + (SELECT count(*) FROM moved) = cardinality($11::text[])
            THEN pg_notify('cnc_ledger', '')::text ELSE cnc.refuse_stale() END
