-- Version 5. By which entry a company's facts are what they are: the hash of its last one, see `is_company_fact`. Every
-- append says on which facts it was decided.

ALTER TABLE cnc.heads ADD COLUMN facts bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex') CHECK (length(facts) = 32);
UPDATE cnc.heads SET facts = e.hash
FROM cnc.heads AS h
CROSS JOIN LATERAL (SELECT hash FROM cnc.events
                    WHERE aggregate_id = h.company::text || '/company/' || h.company::text
                        AND event_type <> 'schema_adopted'
                    ORDER BY sequence DESC LIMIT 1) AS e
WHERE heads.company = h.company;
ALTER TABLE cnc.heads ALTER COLUMN facts DROP DEFAULT;
