-- Says something only where it changes something. The benchmark puts the password in.
SELECT format('CREATE ROLE %I %s', name, options)
FROM (VALUES ('pgorch', 'LOGIN'), ('replicator', 'LOGIN REPLICATION'), ('app', 'LOGIN')) AS r (name, options)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
SELECT 'ALTER ROLE replicator PASSWORD ' || quote_literal('@PASSWORD@')
FROM pg_authid WHERE rolname = 'replicator' AND rolpassword IS NULL \gexec
SELECT format('GRANT %I TO pgorch', name)
FROM unnest(ARRAY['pg_monitor', 'pg_signal_backend', 'pg_checkpoint']) AS name
WHERE NOT pg_has_role('pgorch', name, 'MEMBER') \gexec
SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', f, r)
FROM (VALUES
  ('pgorch', 'pg_catalog.pg_reload_conf()'),
  ('pgorch', 'pg_catalog.pg_promote(boolean, integer)'),
  ('pgorch', 'pg_catalog.pg_wal_replay_pause()'),
  ('pgorch', 'pg_catalog.pg_wal_replay_resume()'),
  ('pgorch', 'pg_catalog.pg_switch_wal()'),
  ('pgorch', 'pg_catalog.pg_show_all_file_settings()'),
  ('pgorch', 'pg_catalog.pg_hba_file_rules()'),
  ('pgorch', 'pg_catalog.pg_stat_file(text, boolean)'),
  ('replicator', 'pg_catalog.pg_ls_dir(text, boolean, boolean)'),
  ('replicator', 'pg_catalog.pg_stat_file(text, boolean)'),
  ('replicator', 'pg_catalog.pg_read_binary_file(text)'),
  ('replicator', 'pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)')) AS g (r, f)
WHERE NOT has_function_privilege(r, f, 'EXECUTE') \gexec
SELECT format('GRANT SELECT ON TABLE %s TO pgorch', t)
FROM unnest(ARRAY['pg_catalog.pg_file_settings', 'pg_catalog.pg_hba_file_rules']) AS t
WHERE NOT has_table_privilege('pgorch', t, 'SELECT') \gexec
