#!/bin/sh
# userland.sh ROOT: makes an ARM64 Debian 12 system with Python 3.11 in ROOT, with two virtual environments that hold only pip:
# /opt/litert and /opt/tflite. Does nothing where that is done already.
set -eu
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -m "$1")
made=$root/.made-by
version=$(sha256sum "$0" | cut -d' ' -f1)
[ ! -e "$made" ] || [ "$(cat "$made")" != "$version" ] || exit 0
rm -rf "$root"
mkdir -p "$root"

echo "Making an ARM64 Debian 12 in $root ..." >&2
# extract: no package's own script runs, which under emulation would take minutes; what they would have done follows below.
packages=base-files,base-passwd,libc-bin,libstdc++6,libgcc-s1,dash,bash,coreutils,findutils,grep,sed,mount,util-linux,procps,kmod
packages=$packages,debianutils,netbase,tzdata,media-types,ca-certificates,python3,python3-venv,python3-pip
mmdebstrap --quiet --variant=extract --arch=arm64 --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --include=$packages bookworm "$root" > "$root.log" 2>&1 || { cat "$root.log" >&2; exit 1; }
cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
printf '127.0.0.1 localhost\n' > "$root/etc/hosts"
cp /etc/resolv.conf "$root/etc/resolv.conf"
mkdir -p "$root/etc/ssl/certs" "$root/exchange"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" # this machine's: the package's own is made by its script

# What /proc/cpuinfo says on the boards. LiteRT chooses its kernels by it: without it XNNPACK is silently off, and with an
# x86 processor's LiteRT 2.3 crashes.
mkdir -p "$root/etc/processors"
describe() { # file, variant, part, revision, features
  for i in 0 1 2 3; do
    printf 'processor\t: %d\nBogoMIPS\t: 108.00\nFeatures\t: %s\nCPU implementer\t: 0x41\n' $i "$5"
    printf 'CPU architecture: 8\nCPU variant\t: %s\nCPU part\t: %s\nCPU revision\t: %s\n\n' "$2" "$3" "$4"
  done > "$root/etc/processors/$1"
}
plain='fp asimd evtstrm crc32 cpuid'
newer='fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp'
describe cortex-a53 0x0 0xd03 4 "$plain"
describe cortex-a72 0x0 0xd08 3 "$plain"
describe cortex-a76 0x4 0xd0b 1 "$newer"

for name in litert tflite; do
  "$here/enter.sh" "$root" cortex-a72 python3 -m venv --without-pip /opt/$name
  for wheel in "$root"/usr/share/python-wheels/pip-*.whl; do # unpacked here: under emulation ensurepip takes a minute
    python3 -m zipfile -e "$wheel" "$root/opt/$name/lib/python3.11/site-packages/"
  done
done
echo "$version" > "$made"
