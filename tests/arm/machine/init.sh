# Runs on the machine's disk as its first process: mounts what a system has, loads the camera, runs the command, powers off.
export PATH=/opt/litert/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2> /dev/null
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
while read -r module; do insmod "/machine/modules/$module" || echo "cannot load $module"; done < /machine/modules/order
echo "BOOTED after $(cut -d' ' -f1 /proc/uptime) s: $(uname -srm), $(grep MemTotal /proc/meminfo)"
sh /machine/command
echo "ENDED with $? after $(cut -d' ' -f1 /proc/uptime) s"
echo o > /proc/sysrq-trigger
sleep 10
