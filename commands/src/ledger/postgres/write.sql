-- Everything that a batch writes, in one statement: entries, heads, answers, and the word that there is more.
WITH recorded AS (
    INSERT INTO cnc.events (company, position, sequence, at, aggregate_id, event_type, event_version, hash,
                            metadata, payload)
    SELECT e.company::uuid, e.position, e.sequence, e.at, e.aggregate_id, e.event_type, e.event_version, e.hash,
           e.metadata::json, e.payload::json
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[],
                $8::bytea[], $9::text[], $10::text[])
         AS e (company, position, sequence, at, aggregate_id, event_type, event_version, hash, metadata, payload)
), founded AS (
    INSERT INTO cnc.heads (company, position, at, hash)
    SELECT h.company::uuid, h.position, h.at, h.hash
    FROM unnest($11::text[], $12::bigint[], $13::bigint[], $14::bytea[], $15::bool[])
         AS h (company, position, at, hash, founded)
    WHERE h.founded
), moved AS (
    UPDATE cnc.heads SET position = h.position, at = h.at, hash = h.hash
    FROM unnest($11::text[], $12::bigint[], $13::bigint[], $14::bytea[], $15::bool[])
         AS h (company, position, at, hash, founded)
    WHERE NOT h.founded AND heads.company = h.company::uuid
), remembered AS (
    INSERT INTO cnc.commands (company, at, for_ever, actor, key, fingerprint, answer)
    SELECT c.company::uuid, c.at, c.for_ever, c.actor, c.key, c.fingerprint, c.answer
    FROM unnest($16::text[], $17::bigint[], $18::bool[], $19::text[], $20::text[], $21::bytea[], $22::text[])
         AS c (company, at, for_ever, actor, key, fingerprint, answer)
)
SELECT pg_notify('cnc_ledger', '')
