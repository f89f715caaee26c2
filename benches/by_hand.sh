#!/bin/sh
# The first apply by hand: the packages, initdb and base backups of `pgorch apply`, over OpenSSH with
# one connection per host, all hosts at once. What a careful person would write for one occasion:
# nothing is checked, nothing is asked, and it works only on fresh hosts.
#
# usage: by_hand.sh DIR
#   DIR/hosts        "NAME ADDRESS" a line, the primary first
#   DIR/ssh_config   how to reach them
#   DIR/files        the files that go to the hosts
set -eu
dir=$1
cluster=bench bin=/usr/lib/postgresql/15/bin
home=/var/lib/pgorch/$cluster
data=$home/15/data

on() { ssh -F "$dir/ssh_config" "$@"; }
finish() {
    while read -r name _; do on -O exit "$name" 2>/dev/null || :; done <"$dir/hosts"
}
trap finish EXIT
# Waits for the jobs whose ids are given; fails if one did.
join() { for pid in "$@"; do wait "$pid"; done; }

read -r primary primary_address <"$dir/hosts"
standbys=$(sed 1d "$dir/hosts" | cut -d' ' -f1)

# The files travel with the script that puts them in place.
install_on() {
    tar -C "$dir/files" -cf - . | on "$1" "set -eu
        mkdir -p /etc/postgresql-common/createcluster.d /root/by-hand
        tar -C /root/by-hand -xf -
        cd /root/by-hand
        install -m 0644 createcluster.conf /etc/postgresql-common/createcluster.d/pgorch.conf
        export DEBIAN_FRONTEND=noninteractive
        [ -n \"\$(find /var/lib/apt/lists -maxdepth 0 -mtime -1)\" ] || apt-get -q update
        apt-get -q -y install postgresql-15 postgresql-client-15
        install -d -o postgres -g postgres -m 0700 $home
        install -m 0644 $1.service /etc/systemd/system/pgorch-$cluster.service
        install -o postgres -g postgres -m 0500 $1.boot $home/$1.boot
        install -o postgres -g postgres -m 0600 passfile $home/passfile
        systemctl daemon-reload
        systemctl -q enable pgorch-$cluster" >"$dir/$1.log" 2>&1
}

configure="for f in postgresql.conf pgorch.conf pg_hba.conf pg_ident.conf; do
        install -o postgres -g postgres -m 0600 \$f $data/\$f
    done"

pids=
for name in $primary $standbys; do install_on "$name" & pids="$pids $!"; done
join $pids

psql="cd / && runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -h /run/postgresql -d postgres"
on "$primary" "set -eu
    cd /root/by-hand
    (cd / && runuser -u postgres -- $bin/initdb -D $data --username=postgres --auth-local=peer \
        --auth-host=scram-sha-256 --data-checksums --encoding=UTF8 --locale=C.UTF-8)
    $configure
    systemctl start pgorch-$cluster
    cat roles.sql databases.sql slots.sql | ($psql)" >>"$dir/$primary.log" 2>&1

pids=
for name in $standbys; do
    on "$name" "set -eu
        cd /root/by-hand
        (cd / && runuser -u postgres -- env PGPASSFILE=$home/passfile $bin/pg_basebackup \
            -d 'host=$primary_address port=5432 user=replicator' -D $data \
            --checkpoint=fast --wal-method=stream --no-password --slot=$name)
        $configure
        install -o postgres -g postgres -m 0600 $name.standby.conf $data/pgorch.standby.conf
        install -o postgres -g postgres -m 0600 /dev/null $data/standby.signal
        systemctl start pgorch-$cluster
        for i in \$(seq 600); do
            [ \"\$($psql -c 'SELECT status FROM pg_stat_wal_receiver')\" != streaming ] || exit 0
            sleep 0.1
        done
        exit 1" >>"$dir/$name.log" 2>&1 &
    pids="$pids $!"
done
join $pids
on "$primary" "cat /root/by-hand/members.sql | ($psql)" >>"$dir/$primary.log" 2>&1
