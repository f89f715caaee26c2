-- Says something only where it changes something. The benchmark puts the members in.
SELECT 'CREATE SCHEMA pgorch AUTHORIZATION pgorch' WHERE to_regnamespace('pgorch') IS NULL \gexec
SELECT 'CREATE TABLE pgorch.nodes (name text PRIMARY KEY, host text NOT NULL, port integer NOT NULL, '
  'location text, priority integer NOT NULL, system_identifier text NOT NULL, '
  'registered_at timestamptz NOT NULL DEFAULT now()); ALTER TABLE pgorch.nodes OWNER TO pgorch'
WHERE to_regclass('pgorch.nodes') IS NULL \gexec
SELECT 'CREATE TABLE pgorch.events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, '
  'at timestamptz NOT NULL DEFAULT now(), kind text NOT NULL, node text, '
  'data jsonb NOT NULL DEFAULT ''{}''); ALTER TABLE pgorch.events OWNER TO pgorch'
WHERE to_regclass('pgorch.events') IS NULL \gexec
SELECT format('INSERT INTO pgorch.nodes (name, host, port, priority, system_identifier) VALUES (%L, %L, 5432, 100, %L)',
  name, host, system_identifier)
FROM (VALUES @MEMBERS@) AS m (name, host), pg_control_system()
WHERE NOT EXISTS (SELECT FROM pgorch.nodes AS n WHERE n.name = m.name) \gexec
