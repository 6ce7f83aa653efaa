#!/bin/sh
# Last step of a base build, run by mmdebstrap outside the new root, which is $1. Part of the base's digest.
set -eu
root=$1

# The hosts' only package source: a flat repository in the base. The archive's own index is what apt saw.
mkdir -p "$root/srv/repository"
rm -f "$root"/var/cache/apt/archives/*.deb
# shellcheck disable=SC2086 # a list of package names
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -qq -y --download-only install $LAB_REPOSITORY
mv "$root"/var/cache/apt/archives/*.deb "$root/srv/repository/"
(
    cd "$root/srv/repository"
    for package in *.deb; do
        dpkg-deb -f "$package"
        printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' \
            "$package" "$(stat -c %s "$package")" "$(sha256sum "$package" | cut -d ' ' -f 1)"
    done > Packages
)
rm -rf "$root"/etc/apt/sources.list.d/* "$root"/var/lib/apt/lists/*
echo 'deb [trusted=yes] file:/srv/repository ./' > "$root/etc/apt/sources.list"
chroot "$root" apt-get -qq update

# What must differ from host to host is made for each host; what would wait for a network outside is off.
rm -rf "$root"/etc/ssh/ssh_host_* "$root"/etc/machine-id "$root"/etc/resolv.conf
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer \
    systemd-networkd-wait-online.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
ln -sf /lib/systemd/system/systemd-networkd.service "$root/etc/systemd/system/multi-user.target.wants/"
