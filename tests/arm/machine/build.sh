#!/bin/sh
# build.sh ROOT WORK: from Debian's packages, a kernel for qemu's ARM machine, an initial RAM disk that mounts /dev/vda, and the
# V4L2 loopback camera's module, compiled by the ARM compiler in a root of its own. Does nothing where that is done already.
set -eu
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$1")
work=$(readlink -m "$2")
made=$work/.made-by
version=$(cat "$0" "$here/init.c" | sha256sum | cut -d' ' -f1)
[ ! -e "$made" ] || [ "$(cat "$made")" != "$version" ] || exit 0
rm -rf "$work"
mkdir -p "$work/ram/modules" "$work/ram/dev" "$work/ram/newroot" "$work/modules"
cd "$work"

echo "Making a kernel and a V4L2 loopback module for ARM64 in $work ..." >&2
packages=linux-image-arm64,linux-headers-arm64,v4l2loopback-dkms,make,gcc-12,binutils,libc6-dev
packages=$packages,dash,bash,coreutils,sed,grep,gawk,findutils,diffutils,perl,kmod
mmdebstrap --quiet --variant=extract --arch=arm64 --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
  --include=$packages bookworm kernel > packages.log 2>&1 || { cat packages.log >&2; exit 1; }
ln -sf gawk kernel/usr/bin/awk
mkdir -p kernel/etc
cp -r "$root/etc/processors" kernel/etc/
release=$(ls kernel/lib/modules)
source=$(cd kernel && ls -d usr/src/v4l2loopback-*)
"$here/../enter.sh" "$PWD/kernel" cortex-a72 make -s -C "/usr/src/linux-headers-$release" M="/$source" modules > module.log 2>&1
depmod -b "$PWD/kernel" "$release" 2> depmod.log || true # it misses files of packages that are not here, which do not matter

needed() { # modules in the order in which they must be loaded
  for module in "$@"; do
    modprobe --dirname "$PWD/kernel" --set-version "$release" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
  done | awk '!seen[$0]++'
}
needed virtio_pci virtio_blk ext4 | while read -r file; do cp "$file" ram/modules/; basename "$file"; done > ram/modules/order
needed videodev | while read -r file; do cp "$file" modules/; basename "$file"; done > modules/order
cp "kernel/$source/v4l2loopback.ko" modules/
echo v4l2loopback.ko >> modules/order
aarch64-linux-gnu-gcc -static -O2 -Wall -o ram/init "$here/init.c"
(cd ram && find . | cpio --create --format=newc --quiet | gzip -1) > initrd.gz
cp "kernel/boot/vmlinuz-$release" vmlinuz
rm -rf kernel ram
echo "$version" > "$made"
