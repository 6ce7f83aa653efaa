#!/bin/sh
# One lab host, for as long as it exists: in the host's cgroups and a mount namespace of its own, it mounts an overlay
# over the base and keeps systemd-nspawn (the arguments) running in it. All mounts end with this process.
# From the environment: LAB_CGROUPS (directories), LAB_BASE (lower directory), LAB_HOST (the host's directory).
set -eu
for group in $LAB_CGROUPS; do
    echo $$ > "$group/cgroup.procs" # fails, and so ends this process, when the lab was taken down meanwhile
done
mount -t overlay overlay -o "lowerdir=$LAB_BASE,upperdir=$LAB_HOST/upper,workdir=$LAB_HOST/work" "$LAB_HOST/root"
while :; do
    status=0
    systemd-nspawn "$@" || status=$?
    [ "$status" = 133 ] || exit "$status" # with --keep-unit, nspawn says by 133 that the host wants a reboot
done
