#!/bin/sh
# boot.sh ROOT WORK COMMAND: boots an ARM64 machine (Cortex-A53, two cores, 512 MB) whose disk is a copy of ROOT, runs COMMAND in
# it with the loopback camera at /dev/video0, and prints its console. Ends when the command has ended.
set -eu
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$1") work=$(readlink -f "$2")
mkdir -p "$root/machine"
rm -rf "$root/machine/modules"
cp -r "$work/modules" "$root/machine/modules"
cp "$here/init.sh" "$root/machine/init.sh"
printf '%s\n' "$3" > "$root/machine/command"
rm -f "$work/disk.img"
truncate -s $(( $(du -sm "$root" | cut -f1) * 11 / 10 + 300 ))M "$work/disk.img"
mke2fs -q -F -t ext4 -d "$root" "$work/disk.img"
exec qemu-system-aarch64 -M virt -cpu cortex-a53 -smp 2 -m 512 -nographic -no-reboot \
  -kernel "$work/vmlinuz" -initrd "$work/initrd.gz" -drive if=none,file="$work/disk.img",format=raw,cache=unsafe,id=disk \
  -device virtio-blk-pci,drive=disk -append "console=ttyAMA0 quiet panic=-1 sysrq_always_enabled=1" < /dev/null
