SELECT pg_logical_emit_message(true, 'pgorch', 'sync');
SELECT set_config('pgorch.mark', pg_current_wal_insert_lsn()::text, false);
DO $$
DECLARE
  members text[] := @MEMBERS@;
  mark pg_lsn := current_setting('pgorch.mark');
  until timestamptz := clock_timestamp() + interval '@SECONDS@ s';
  seen record;
BEGIN
  LOOP
    PERFORM pg_stat_clear_snapshot();
    -- A sender that has sent the mark reads its files before it hears of that again.
    SELECT count(*) FILTER (WHERE own AND flush_lsn >= mark) AS covered,
      count(*) FILTER (WHERE (sync_priority > 0) <> member) AS strange,
      count(*) FILTER (WHERE member AND coalesce(flush_lsn < mark, true)) AS late,
      count(*) FILTER (WHERE member AND NOT own) AS stolen
    INTO seen
    FROM (SELECT r.*, r.application_name = ANY (members) AS member,
        r.application_name = ANY (members) AND EXISTS (SELECT FROM pg_replication_slots s
          WHERE s.active_pid = r.pid AND s.slot_name = r.application_name) AS own
      FROM pg_stat_replication r WHERE r.state = 'streaming') senders;
    EXIT WHEN seen.covered >= @K@ AND seen.strange = 0 AND seen.late = 0 AND seen.stolen = 0;
    IF clock_timestamp() > until THEN
      RAISE 'not in force everywhere within @SECONDS@ s: % of @K@ standbys have all WAL, % senders go by other names, % are late, % have a member''s name and not its slot',
        seen.covered, seen.strange, seen.late, seen.stolen;
    END IF;
    PERFORM pg_sleep(0.02);
  END LOOP;
END $$;
