-- Version 2. By which entry a company's facts are what they are: the hash of its last one, see `is_company_fact`. Every
-- append says on which facts it was decided.
ALTER TABLE heads ADD COLUMN facts BLOB NOT NULL 
    DEFAULT x'0000000000000000000000000000000000000000000000000000000000000000' CHECK (length(facts) = 32);
UPDATE heads SET facts = coalesce(
    (SELECT e.hash FROM events AS e
     WHERE e.company = heads.company AND e.stream = 'company' AND e.id = heads.company AND e.event <> 'schema_adopted'
     ORDER BY e.sequence DESC LIMIT 1),
    facts);
