SELECT json_build_object(
  'version_num', current_setting('server_version_num')::int,
  'version', current_setting('server_version'),
  'in_recovery', l.recovery,
  'system_identifier', (SELECT system_identifier::text FROM pg_control_system()),
  'timeline', CASE WHEN l.recovery
    THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver WHERE received_tli > 0),
      greatest((SELECT timeline_id FROM pg_control_checkpoint()),
        (SELECT min_recovery_end_timeline FROM pg_control_recovery())))
    ELSE ('x' || left(pg_walfile_name(l.lsn), 8))::bit(32)::int END,
  'lsn', l.lsn,
  'replay_lsn', CASE WHEN l.recovery THEN pg_last_wal_replay_lsn() END,
  'replay_lag_seconds', CASE WHEN l.recovery AND pg_last_wal_replay_lsn() < l.lsn
    THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END,
  'replay_paused', CASE WHEN l.recovery THEN pg_is_wal_replay_paused() ELSE false END,
  'receiver', (SELECT json_build_object(
      'status', status, 'sender_host', sender_host, 'sender_port', sender_port, 'slot', slot_name,
      'silent_seconds', extract(epoch FROM clock_timestamp() - last_msg_receipt_time))
    FROM pg_stat_wal_receiver),
  'senders', (SELECT json_agg(json_build_object(
      'application_name', r.application_name, 'client_addr', host(r.client_addr),
      'state', r.state, 'sync_state', r.sync_state, 'slot', s.slot_name,
      'sent', r.sent_lsn, 'flush', r.flush_lsn, 'replay', r.replay_lsn)
      ORDER BY r.application_name, r.pid)
    FROM pg_stat_replication r LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid),
  'slots', (SELECT json_agg(json_build_object(
      'name', slot_name, 'physical', slot_type = 'physical', 'active', active,
      'restart_lsn', restart_lsn, 'wal_status', wal_status,
      'retained_bytes', pg_wal_lsn_diff(l.lsn, restart_lsn)::bigint) ORDER BY slot_name)
    FROM pg_replication_slots WHERE NOT temporary),
  'settings', (SELECT json_object_agg(name, json_build_object(
      'value', regexp_replace(current_setting(name, true),
        'password\s*=\s*(''([^''\\]|\\.)*''|\S+)', 'password=********', 'gi'),
      'raw', regexp_replace(setting,
        'password\s*=\s*(''([^''\\]|\\.)*''|\S+)', 'password=********', 'gi'),
      'unit', unit, 'vartype', vartype, 'context', context, 'source', source,
      'source_file', sourcefile, 'pending_restart', pending_restart) ORDER BY name)
    FROM pg_settings
    WHERE pending_restart OR source IN ('configuration file', 'command line')
      OR lower(name) = ANY (ARRAY[@NAMES@]::text[])),
  'databases', (SELECT json_agg(datname ORDER BY datname) FROM pg_database WHERE datallowconn),
  'roles', (SELECT json_agg(rolname ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_'),
  'up_seconds', extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()),
  'conf_loaded_seconds', extract(epoch FROM clock_timestamp() - pg_conf_load_time()),
  'conf_loaded_at', extract(epoch FROM pg_conf_load_time()),
  'archive_failing', current_setting('archive_mode') <> 'off' AND coalesce(
    (SELECT last_failed_time > coalesce(last_archived_time, '-infinity') FROM pg_stat_archiver),
    false),
  'file_settings', CASE WHEN has_table_privilege('pg_catalog.pg_file_settings', 'SELECT')
      AND has_function_privilege('pg_catalog.pg_show_all_file_settings()', 'EXECUTE')
    THEN query_to_xml($q$SELECT json_agg(json_build_object(
        'file', f.sourcefile, 'line', f.sourceline, 'name', f.name, 'setting', f.setting,
        'error', f.error, 'context', s.context, 'vartype', s.vartype, 'unit', s.unit,
        'choices', s.enumvals, 'min', s.min_val, 'max', s.max_val)) AS j
      FROM pg_file_settings f LEFT JOIN pg_settings s ON lower(s.name) = lower(f.name)
      WHERE f.error IS NOT NULL$q$, false, true, '')::text END,
  'hba_rules', CASE WHEN has_table_privilege('pg_catalog.pg_hba_file_rules', 'SELECT')
      AND has_function_privilege('pg_catalog.pg_hba_file_rules()', 'EXECUTE')
      AND has_function_privilege('pg_catalog.pg_stat_file(text, boolean)', 'EXECUTE')
    THEN query_to_xml($q$SELECT CASE
        WHEN (pg_stat_file(current_setting('hba_file'), true)).size IS NOT NULL
        THEN (SELECT json_agg(json_build_object('line', line_number, 'error', error))
          FROM pg_hba_file_rules WHERE error IS NOT NULL) END AS j$q$, false, true, '')::text END,
  'registered', CASE WHEN EXISTS (SELECT FROM pg_attribute
      WHERE attrelid = to_regclass('pgorch.nodes') AND attname = 'name' AND NOT attisdropped)
      AND has_table_privilege(to_regclass('pgorch.nodes'), 'SELECT')
    THEN query_to_xml('SELECT json_agg(name ORDER BY name) AS j FROM pgorch.nodes',
      false, true, '')::text END)
FROM (SELECT r.recovery, CASE WHEN r.recovery
    THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
    ELSE pg_current_wal_lsn() END AS lsn
  FROM (SELECT pg_is_in_recovery() AS recovery OFFSET 0) r OFFSET 0) l
