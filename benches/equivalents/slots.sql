SELECT format('SELECT pg_create_physical_replication_slot(%L, true)', slot)
FROM unnest(ARRAY[@SLOTS@]) AS slot
WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = slot) \gexec
