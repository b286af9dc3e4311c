#!/bin/sh
# Installs Home Assistant into an environment of its own (about 800 MB): install.sh PYTHON FOLDER
set -eu
python=$1 folder=$2
[ -x "$folder/.ready" ] && exit 0
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null ||
  { echo "Home Assistant 2025.4 needs Python 3.13: make test-home-assistant PYTHON313=/path/to/python3.13" >&2; exit 1; }
command -v mosquitto >/dev/null || { echo "make test-home-assistant needs mosquitto: apt-get install mosquitto" >&2; exit 1; }
echo "Installing Home Assistant into $folder ..." >&2
"$python" -m venv "$folder"
# The last that runs on Python 3.13.0; the page of its frontend is asked for at the start, paho-mqtt by its MQTT integration.
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
  'homeassistant==2025.4.4' 'home-assistant-frontend==20250411.0' 'paho-mqtt==2.1.0'
install -m 755 /dev/null "$folder/.ready"
