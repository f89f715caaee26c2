#!/bin/sh
# Finishes a lab image. mmdebstrap runs it with the image's root directory as $1; the
# environment names PGORCH_DOWNLOAD, the packages whose .deb files the image should hold, and
# PGORCH_KEYRINGS, a directory of the keys that its package sources are signed with.
set -eu
root=$1

cp "$PGORCH_KEYRINGS"/* "$root/etc/apt/trusted.gpg.d/"
# A company's mirror may have a certificate of the company's own.
if ls /usr/local/share/ca-certificates/*.crt >/dev/null 2>&1; then
    cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/"
    chroot "$root" update-ca-certificates
fi

# A sudo user who needs no password, and one who does.
chroot "$root" useradd -m -u 2001 -s /bin/bash -G sudo admin
# The group of this name is Debian's own.
chroot "$root" useradd -m -u 2002 -g operator -s /bin/bash -G sudo operator
echo 'operator:operator-password' | chroot "$root" chpasswd
echo 'admin ALL=(ALL:ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/pgorch-lab-admin"
chmod 0440 "$root/etc/sudoers.d/pgorch-lab-admin"

# Every lab host has host keys of its own; the lab's login key opens all three accounts.
rm -f "$root"/etc/ssh/ssh_host_*
mkdir -p "$root/etc/ssh/sshd_config.d"
cat >"$root/etc/ssh/sshd_config.d/10-pgorch-lab.conf" <<'EOF'
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/pgorch_lab_authorized_keys
PermitRootLogin prohibit-password
UseDNS no
MaxStartups 200:30:400
EOF

# The address is set by the host itself, so a reboot inside it keeps the network.
cat >"$root/etc/systemd/system/pgorch-lab-network.service" <<'EOF'
[Unit]
Description=Address of this pgorch lab host
DefaultDependencies=no
After=systemd-sysctl.service
Before=network-pre.target network.target sysinit.target
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
EnvironmentFile=/etc/default/pgorch-lab
ExecStart=/sbin/ip link set dev host0 name eth0
ExecStart=/sbin/ip link set dev lo up
ExecStart=/sbin/ip link set dev eth0 up
ExecStart=/sbin/ip address add ${ADDRESS} dev eth0
ExecStart=/sbin/ip route add default via ${GATEWAY}

[Install]
WantedBy=sysinit.target
EOF
chroot "$root" systemctl enable pgorch-lab-network.service ssh.service
chroot "$root" systemctl set-default multi-user.target

# What a disposable host has no use for. Each costs time at boot or noise later.
for unit in console-getty.service container-getty@.service getty@.service getty.target \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer logrotate.timer man-db.timer systemd-timesyncd.service \
    systemd-networkd.service systemd-networkd.socket systemd-networkd-wait-online.service \
    systemd-resolved.service dev-hugepages.mount \
    systemd-journal-catalog-update.service systemd-update-done.service ldconfig.service
do
    chroot "$root" systemctl mask "$unit"
done
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=persistent\nSystemMaxUse=64M\n' \
    >"$root/etc/systemd/journald.conf.d/pgorch-lab.conf"

echo 'LANG=C.UTF-8' >"$root/etc/default/locale"

# A lab host is thrown away, so its package manager need not wait for the disk.
mkdir -p "$root/etc/dpkg/dpkg.cfg.d"
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/pgorch-lab"
# apt uses a file in its archive directory when name, size and digest are those of the index.
chroot "$root" apt-get clean
if [ -n "${PGORCH_DOWNLOAD:-}" ]; then
    # With what is only recommended: an installation may want it or not, and finds it either way.
    # shellcheck disable=SC2086  # a list of package names
    chroot "$root" apt-get install --yes --download-only -o APT::Install-Recommends=true \
        $PGORCH_DOWNLOAD
fi

mkdir -p "$root/var/lib/pgorch"
touch "$root/etc/.updated" "$root/var/.updated"
# Each host gets its own at creation.
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"
