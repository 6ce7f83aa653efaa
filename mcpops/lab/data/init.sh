# PID 1 of a lab host for a moment, then systemd.
# nspawn gives v1 controllers read-only; Docker and systemd's MemoryMax= must write them.
mount -o remount,rw,bind /sys/fs/cgroup 2>/dev/null
for controller in /sys/fs/cgroup/*/; do
    mount -o remount,rw,bind "$controller" 2>/dev/null
done
# Sysctls outside net.* belong to the machine: a host gets a copy, which keeps what is written but has no effect.
mkdir -p /run/sysctl
for area in vm fs kernel; do
    cp -r "/proc/sys/$area" /run/sysctl/ 2>/dev/null
    [ "$area" = kernel ] && mount --rbind /proc/sys/kernel/random /run/sysctl/kernel/random
    mount --rbind "/run/sysctl/$area" "/proc/sys/$area"
done
mount --make-rshared /
exec /lib/systemd/systemd
