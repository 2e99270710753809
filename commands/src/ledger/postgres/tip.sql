-- Version 4. Which message relays know as the stream's last: one that stands in its place, after the broker lost what it had
-- not written, is another. It is known while `tip` is `acknowledged`, which relays of an earlier version raise alone.

ALTER TABLE cnc.relay_stream ADD COLUMN tip bigint NOT NULL DEFAULT 0, ADD COLUMN tip_id text NOT NULL DEFAULT '';
