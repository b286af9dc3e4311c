#!/bin/sh
# Installs what the tests in this folder need from Debian, or says what is missing.
set -eu
wanted="mosquitto openssl openssh-client openssh-server ffmpeg nginx mmdebstrap
  python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
  gstreamer1.0-plugins-ugly
  chromium chromium-driver"

command -v dpkg-query >/dev/null || { echo "make test-system needs Debian's packages: $(echo $wanted)" >&2; exit 1; }
missing=
for package in $wanted; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
[ "$(id -u)" = 0 ] || { echo "make test-system needs: sudo apt-get install --no-install-recommends$missing" >&2; exit 1; }
echo "Installing$missing ..." >&2
export DEBIAN_FRONTEND=noninteractive
apt-get -qq -o DPkg::Lock::Timeout=300 update
apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $missing >/dev/null
