-- Everything that a batch writes, in one statement: entries, heads and answers. It undoes itself where a head does not stand where the batch was stamped to follow it, or has moved to another database.
WITH recorded AS (
    INSERT INTO cnc.events (company, position, sequence, at, aggregate_id, event_type, event_version, hash,
                            metadata, payload)
    SELECT unnest($1::uuid[]), unnest($2::bigint[]), unnest($3::bigint[]), unnest($4::bigint[]), unnest($5::text[]),
           unnest($6::text[]), unnest($7::text[]), unnest($8::bytea[]), unnest($9::text[])::json,
           unnest($10::text[])::json
), heads_after (company, position, at, hash, before, hash_before, facts) AS (
    SELECT unnest($11::uuid[]), unnest($12::bigint[]), unnest($13::bigint[]), unnest($14::bytea[]),
           unnest($15::bigint[]), unnest($16::bytea[]), unnest($23::bytea[])
), founded AS (
    INSERT INTO cnc.heads (company, position, at, hash, facts)
    SELECT h.company, h.position, h.at, h.hash, h.facts FROM heads_after AS h WHERE h.before IS NULL
    RETURNING 1
), moved AS (
    UPDATE cnc.heads SET position = h.position, at = h.at, hash = h.hash, facts = h.facts
    FROM heads_after AS h
    WHERE heads.company = h.company AND heads.position = h.before AND heads.hash = h.hash_before
        AND heads.moved_to IS NULL
    RETURNING 1
), remembered AS (
    INSERT INTO cnc.commands (id, company, at, for_ever, fingerprint, answer)
    SELECT unnest($17::uuid[]), unnest($22::uuid[]), unnest($18::bigint[]), unnest($19::bool[]), unnest($20::bytea[]),
           unnest($21::text[])
)
SELECT CASE WHEN (SELECT count(*) FROM founded) + (SELECT count(*) FROM moved) = cardinality($11::uuid[])
            THEN '' ELSE cnc.refuse_stale() END
