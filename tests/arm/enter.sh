#!/bin/sh
# enter.sh ROOT PROCESSOR COMMAND...: runs a command in the ARM userland as cortex-a53 (Pi Zero 2 W, 3), cortex-a72 (Pi 4) or
# cortex-a76 (Pi 5). Mounts stand in a namespace of their own and go with the command; the network is this machine's.
# QEMU_CPU must reach every child: without it qemu 7.2 emulates SME, and with that int8 results are wrong.
set -eu
root=$(readlink -f "$1") processor=$2
shift 2
export root processor
exec unshare --mount sh -c '
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sys "$root/sys"
mount --rbind /dev "$root/dev"
mount --bind "$root/etc/processors/$processor" "$root/proc/cpuinfo"
exec chroot "$root" env -i QEMU_CPU="$processor" PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 PYTHONHASHSEED=0 \
  PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore "$@"
' sh "$@"
