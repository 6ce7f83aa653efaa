#!/bin/sh
# Makes a bare lab host ready for the corpus. Runs once as root on each host, on all alike: twins must stay twins.
set -eu

# Both ways meet a host of one name.
echo 'twin' > /etc/hostname
hostname twin
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 twin twin.test\n' > /etc/hosts

# Logins: one with sudo for everything, one that sudo asks for a password, one without any right.
useradd -m -u 2001 -s /bin/bash deploy
useradd -m -u 2002 -s /bin/bash typist
useradd -m -u 2003 -s /bin/sh app
usermod -p "$(openssl passwd -6 -salt corpus "the typist's word")" typist
echo 'deploy ALL=(ALL:ALL) NOPASSWD: ALL' > /etc/sudoers.d/deploy
# No lecture at first use, and no record of it: both would differ from the second use.
echo 'Defaults lecture=never, timestamp_timeout=0' > /etc/sudoers.d/typist
echo 'typist ALL=(ALL:ALL) ALL' >> /etc/sudoers.d/typist
chmod 0440 /etc/sudoers.d/deploy /etc/sudoers.d/typist
for login in deploy typist app; do
    install -d -m 0700 -o "$login" -g "$login" "/home/$login/.ssh"
    install -m 0600 -o "$login" -g "$login" /root/.ssh/authorized_keys "/home/$login/.ssh/authorized_keys"
done

export SOURCE_DATE_EPOCH=1767225600  # so that packages are the same on all
# Packages that take no time: a program, a program not in the index, and a library for Python.
package() {
    name=$1 at=$2 into=$3
    root=/srv/packages/$name
    mkdir -p "$root/DEBIAN" "$root/$(dirname "$at")"
    cat > "$root/$at"
    printf 'Package: %s\nVersion: 1.0\nArchitecture: all\nMaintainer: corpus\nDescription: of the corpus\n' "$name" \
        > "$root/DEBIAN/control"
    find "$root" -exec touch -d 2026-01-01T00:00:00Z {} +
    dpkg-deb -Znone -b "$root" "$into/$name.deb" > /dev/null
    rm -r "$root"
}
printf '#!/bin/sh\necho word\n' | package corpus-word usr/bin/corpus-word /srv/repository
printf '#!/bin/sh\necho other\n' | package corpus-other usr/bin/corpus-other /srv/packages
mkdir -p /srv/packages/corpus-late/usr/lib/python3/dist-packages/corpus_late
echo "WORD = 'deeper'" > /srv/packages/corpus-late/usr/lib/python3/dist-packages/corpus_late/deeper.py
echo "WORD = 'package'" | package corpus-late usr/lib/python3/dist-packages/corpus_late/__init__.py /srv/repository
cd /srv/repository
for deb in corpus-*.deb; do
    dpkg-deb -f "$deb"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' \
        "$deb" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d ' ' -f 1)"
done >> Packages
apt-get -qq update
cd /

# Interpreters: one without the system's packages, and one that another directory on PATH may hide the system's by.
python3 -m venv --without-pip /opt/venv
mkdir /opt/wrapper
# shellcheck disable=SC2016 # for the wrapper, not for this script
printf '#!/bin/sh\nCORPUS_WORD=wrapped exec /usr/bin/python3 "$@"\n' > /opt/wrapper/python3
chmod 0755 /opt/wrapper/python3

# A web server of the host's own.
mkdir /srv/page
echo 'a page' > /srv/page/page.txt
find /srv -exec touch -d 2026-01-01T00:00:00Z {} +
systemd-run --quiet --unit=page -p WorkingDirectory=/srv/page /usr/bin/python3 -m http.server --bind 127.0.0.1 8099
for _ in $(seq 50); do
    if curl -fs --noproxy '*' -o /dev/null http://127.0.0.1:8099/page.txt; then exit 0; fi
    sleep 0.1
done
echo 'the web server did not answer within 5 s' >&2
exit 1
