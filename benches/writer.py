#!/usr/bin/env python3
"""An application that keeps a ledger: one INSERT per transaction, RATE times a second.

usage: writer.py RATE CONNINFO

Needs psycopg2 (libpq) and a table `ledger (id bigint PRIMARY KEY)`. Says `writing` when the first row
is acknowledged, writes until its standard input ends, then reads the table back from whoever takes
writes by then, and prints one JSON document. Only what the server has acknowledged is in the ledger;
an id is never used again after an error, so an id that is missing afterwards is a lost row.
"""

import json
import select
import sys
import time

import psycopg2

RATE, CONNINFO = float(sys.argv[1]), sys.argv[2]
READ_BACK_FOR = 30.0


def connect():
    connection = psycopg2.connect(CONNINFO)
    connection.autocommit = True
    return connection


def stdin_ended():
    return bool(select.select([sys.stdin], [], [], 0)[0])


def close(connection):
    try:
        connection.close()
    except psycopg2.Error:
        pass


def write():
    """Rows until standard input ends: acknowledgements (time, id), servers (time, address), errors."""
    acknowledged, servers, errors = [], [], []
    connection, last = None, None
    due = time.monotonic()
    while not stdin_ended():
        try:
            if connection is None:
                connection = connect()
                cursor = connection.cursor()
                cursor.execute("SELECT host(inet_server_addr()), (SELECT coalesce(max(id), 0) FROM ledger)")
                address, newest = cursor.fetchone()
                servers.append((time.monotonic(), address))
                last = max(last or 0, newest)
            last += 1
            cursor.execute("INSERT INTO ledger VALUES (%s)", (last,))
            acknowledged.append((time.monotonic(), last))
            if len(acknowledged) == 1:
                print("writing", flush=True)
        except psycopg2.Error as error:
            errors.append((time.monotonic(), str(error).strip()))
            if connection is not None:
                # A lost connection is made anew at once; attempts that fail keep the pace of the rows.
                close(connection)
                connection = None
                continue
        # What was not written in an outage is not made up for.
        due = max(due + 1 / RATE, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
    if connection is not None:
        close(connection)
    return acknowledged, servers, errors


def read_back(first):
    """The ids from `first` on, and the server that has them."""
    until = time.monotonic() + READ_BACK_FOR
    while True:
        try:
            connection = connect()
            cursor = connection.cursor()
            cursor.execute("SELECT host(inet_server_addr())")
            address = cursor.fetchone()[0]
            cursor.execute("SELECT id FROM ledger WHERE id >= %s", (first,))
            return address, {row[0] for row in cursor.fetchall()}
        except psycopg2.Error:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def main():
    acknowledged, servers, errors = write()
    ids = {number for _, number in acknowledged}
    address, present = read_back(min(ids)) if ids else (None, set())
    print(json.dumps({
        "times": [moment for moment, _ in acknowledged],
        "servers": servers,
        "errors": len(errors),
        "first_errors": errors[:5],
        "lost": sorted(ids - present),
        "not_acknowledged": len(present - ids),
        "read_back_from": address,
    }))


if __name__ == "__main__":
    main()
