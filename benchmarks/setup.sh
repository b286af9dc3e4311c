#!/bin/sh
# Makes one environment for each way of classifying a video, below benchmarks/.envs. What cannot be installed is reported and left out.
# PEERS="edgecnn supervision" sets only these up; ultralytics brings PyTorch with CUDA, several gigabytes.
cd "$(dirname "$0")" || exit 1
mkdir -p .envs
OPENCV='opencv-python-headless>=4.12,<4.13'

make_env() { # name, then what pip is to install
    name=$1
    shift
    [ -e ".envs/$name/.ready" ] && return
    echo "Installing $name into benchmarks/.envs/$name ..." >&2
    "${PYTHON:-python3}" -m venv ".envs/$name" &&
        ".envs/$name/bin/pip" install --quiet --no-compile --disable-pip-version-check "$@" &&
        touch ".envs/$name/.ready" ||
        echo "$name cannot be had here; its row is left out" >&2
}

for peer in ${PEERS:-edgecnn supervision roboflow edge_impulse keras reader_d5a7022 ultralytics}; do
    case $peer in
        edgecnn) # as it stands now, whatever an earlier run has installed
            make_env edgecnn .. &&
                .envs/edgecnn/bin/pip install --quiet --no-compile --disable-pip-version-check --no-deps --force-reinstall .. ;;
        supervision) make_env supervision supervision ai-edge-litert "$OPENCV" ;;
        roboflow) make_env roboflow inference ai-edge-litert ;;
        edge_impulse)
            # pyaudio, which only sound needs, must be compiled.
            make_env edge_impulse numpy six psutil ai-edge-litert "$OPENCV"
            .envs/edge_impulse/bin/pip install --quiet --disable-pip-version-check --no-deps edge_impulse_linux ;;
        keras) make_env keras tensorflow-cpu 'keras>=3.15,<3.16' "$OPENCV" ;;
        reader_d5a7022) # the reader of digits of 27 November 2026, before it was made fast
            mkdir -p .envs/d5a7022 && git -C .. archive d5a7022 | tar -x -C .envs/d5a7022 &&
                make_env reader_d5a7022 ./.envs/d5a7022 || echo "the history has no d5a7022; its columns are left out" >&2 ;;
        ultralytics) make_env ultralytics ultralytics ;;
    esac
done
exit 0
