#!/usr/bin/env python3
"""A client of one server: inserts RATE rows a second while that server takes writes, and keeps a ledger.

usage: prober.py RATE HOST FIRST_ID

Needs psycopg2 (libpq) and a table `ledger (id bigint PRIMARY KEY)`. Nothing is waited for longer than
PATIENCE, so a server that is silent costs no more time than one that is gone. Says `on MOMENT` when a row is
acknowledged after none was, works until its standard input ends, and prints one JSON document. An id is
never used again, so one that was acknowledged and is missing afterwards is a lost row.
"""

import json
import select
import sys
import time

import psycopg2
from psycopg2 import extensions

RATE, HOST, FIRST = float(sys.argv[1]), sys.argv[2], int(sys.argv[3])
# Seconds for a connection, and for an answer.
PATIENCE = 0.5
# Between two attempts, and between two looks at a server that is a standby.
PAUSE = 0.02
WAITS = {extensions.POLL_READ: ([0], []), extensions.POLL_WRITE: ([], [0])}


class Silent(Exception):
    pass


def wait(connection):
    until = time.monotonic() + PATIENCE
    while (state := connection.poll()) != extensions.POLL_OK:
        reads, writes = WAITS[state]
        left = until - time.monotonic()
        fd = connection.fileno()
        if left <= 0 or not any(select.select([fd] * len(reads), [fd] * len(writes), [], left)):
            raise Silent(f"no answer within {PATIENCE} s")


def connect():
    connection = psycopg2.connect(f"host={HOST} user=app dbname=app sslmode=disable", async_=1)
    wait(connection)
    return connection


def ask(connection, sql, *values):
    cursor = connection.cursor()
    cursor.execute(sql, values)
    wait(connection)
    return cursor


def stdin_ended():
    return bool(select.select([sys.stdin], [], [], 0)[0])


def main():
    acknowledged, connection, standby, number, due = [], None, True, FIRST, time.monotonic()
    while not stdin_ended():
        try:
            if connection is None:
                connection, standby = connect(), True
            if standby:
                standby = ask(connection, "SELECT pg_is_in_recovery()").fetchone()[0]
            if not standby:
                number += 1
                sent = time.monotonic()
                ask(connection, "INSERT INTO ledger VALUES (%s)", number)
                now = time.monotonic()
                if not acknowledged or sent - acknowledged[-1][0] > 0.2:
                    print(f"on {now}", flush=True)
                acknowledged.append((now, number))
        except (psycopg2.Error, Silent):
            if connection is not None:
                try:
                    connection.close()
                except psycopg2.Error:
                    pass
            connection, standby = None, True
        due = max(due + (PAUSE if standby else 1 / RATE), time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
    print(json.dumps(acknowledged))


if __name__ == "__main__":
    main()
