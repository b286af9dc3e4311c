#!/bin/sh
# install.sh userland|machine: installs from Debian what the ARM tests need on this x86-64 machine, or says what is missing.
set -eu
wanted="qemu-user qemu-user-static mmdebstrap gcc libc6-dev"
[ "$1" = userland ] || wanted="$wanted qemu-system-arm ipxe-qemu cpio kmod e2fsprogs gcc-aarch64-linux-gnu libc6-dev-arm64-cross"

command -v dpkg-query >/dev/null || { echo "the ARM tests need Debian's packages: $wanted" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "the ARM tests build a foreign system and mount /proc in it: run them as root" >&2; exit 1; }
missing=
for package in $wanted; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
if [ -n "$missing" ]; then
  echo "Installing$missing ..." >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq -o DPkg::Lock::Timeout=300 update
  apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $missing >/dev/null
fi

# Where no systemd runs, nobody has told the kernel who runs ARM programs. Flag F: the emulator need not be in the root.
formats=/proc/sys/fs/binfmt_misc
[ -e $formats/register ] || mount -t binfmt_misc binfmt_misc $formats
[ -e $formats/qemu-aarch64 ] || cat /usr/lib/binfmt.d/qemu-aarch64.conf > $formats/register
