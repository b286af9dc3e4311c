"""What strangers' files are meant to do, and typing errors: nothing runs, no password is told, no file is lost."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import SHIPPED, run_edgecnn
from hostile_models import endless
from ledger import Ledger
from running import CameraProcess, find_port, wait_until

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.artifact import join_bytes

pytestmark = pytest.mark.timeout(900)
TABLE = "strangers"
MODEL = SHIPPED / "neu-int8.tflite"
SECRET = "pa55w0rd"
# As the manuals of cameras give them, and as they are mistyped.
ADDRESSES = (
    f"rtsp://me:{SECRET}@HOST/stream",
    f"rtsp://me:{SECRET}@x@HOST/stream",
    f"rtsp://me:{SECRET}/x@HOST/stream",
    f"rtsp://me:{SECRET}#x@HOST/stream",
    f"rtsp://me:{SECRET}?x@HOST/stream",
    f"rtsp://me:{SECRET}@[::1/stream",
    f"RTSP://me:{SECRET}@HOST/stream",
    f"rtspt://me:{SECRET}@HOST/stream",
    f"rtsp:/me:{SECRET}@HOST/stream",
    f"me:{SECRET}@HOST/stream",
    f"rtsp://HOST/user=me&password={SECRET}&channel=1.sdp",
    f"http://HOST/cgi-bin/api.cgi?cmd=Snap&user=me&password={SECRET}",
    f"http://HOST/video.mjpg?user=me&pwd={SECRET}",
    f"http://HOST/?action=stream&apikey={SECRET}",
    f"http://me:{SECRET}@HOST/snapshot.jpg",
    f"http://HOST/Bühne.jpg?token={SECRET}",
)


def test_no_form_of_an_address_tells_its_password(tmp_path: Path, ledger: Ledger) -> None:
    port, cameras = find_port(), list[subprocess.Popen[bytes]]()
    for number, address in enumerate(ADDRESSES):
        folder = tmp_path / str(number)
        folder.mkdir()
        source = folder / "source"
        source.write_text(address.replace("HOST", f"127.0.0.1:{port}"))
        source.chmod(0o600)
        command = [sys.executable, "-m", "edgecnn", "camera", str(MODEL), "--source-file", str(source)]
        sinks = ["--jsonl", str(folder / "o.jsonl"), "--csv", str(folder / "o.csv"), "--open-timeout", "1"]
        with (folder / "out").open("wb") as out:
            cameras.append(subprocess.Popen([*command, *sinks], stdout=out, stderr=subprocess.STDOUT))
    lost = 0
    for number, camera in enumerate(cameras):
        wait_until(partial(_is_over, camera, tmp_path / str(number) / "o.jsonl"), 200, "end")
        lost += camera.poll() is None
        camera.terminate()
        assert camera.wait(30) in (0, 2)

    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "source"]
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []
    assert [path for path in written if b"Traceback" in path.read_bytes()] == []
    refused = len(ADDRESSES) - lost
    outcome = f"{refused} refused in one line, {lost} `stale` by scheme, host and port; the password stood nowhere"
    ledger.note(TABLE, "passwords in addresses, as manuals give them and as they are mistyped", len(ADDRESSES), outcome)


def _is_over(camera: subprocess.Popen[bytes], lines: Path) -> bool:
    """Tell whether a camera has refused its address, or has said that nobody is there."""
    return camera.poll() is not None or (lines.exists() and '"stale"' in lines.read_text())


FOREIGN = {
    "a text without a line end": b"my thesis",
    "another program's JSON": b'{"mqtt": "settings"}',
    "a picture": cv2.imencode(".jpg", np.zeros((40, 40, 3), np.uint8))[1].tobytes(),
    "a table": b"time;value\n1;2\n",
    "bytes": bytes(range(256)) * 400,
}
SINKS = {"--jsonl": "results.jsonl", "--csv": "results.csv", "--video": "results.avi"}


def test_no_sink_touches_a_file_that_it_did_not_make(tmp_path: Path, ledger: Ledger) -> None:
    cases = 0
    options = (str(MODEL), "--source", "synthetic", "--no-realtime", "--frames", "3", "--no-terminal")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(2):
        cv2.imwrite(str(pictures / f"{number}.png"), np.random.default_rng(number).integers(0, 256, (60, 60, 3), np.uint8))
    for option, name in SINKS.items():
        source = ("--source", str(pictures)) if option == "--video" else options[1:3]
        for what, content in FOREIGN.items():
            path = tmp_path / name
            path.write_bytes(content)
            frames = () if option == "--video" else options[3:6]
            done = run_edgecnn("camera", str(MODEL), *source, *frames, "--no-terminal", option, path)
            assert done.is_one_line, (option, what, done)
            assert path.read_bytes() == content, (option, what)
            cases += 1
    album = tmp_path / "album"
    album.mkdir()
    for number in range(10):
        for suffix in (".png", ".json"):
            (album / f"holiday_{number}{suffix}").write_bytes(FOREIGN["bytes"])
            os.utime(album / f"holiday_{number}{suffix}", (0, 0))
    before = {path: path.read_bytes() for path in album.iterdir()}
    done = run_edgecnn("camera", *options, "--keep", album, "--keep-every", "0.001", "--keep-mb", "0.1")

    assert done.code == 0, done
    assert {path: path.read_bytes() for path in before if path.exists()} == before
    ledger.note(
        TABLE, "somebody else's file for `--jsonl`, `--csv`, `--video`", cases, "refused in one line, not a byte changed"
    )
    ledger.note(TABLE, "somebody else's old files in the folder of `--keep`, far over its bound", len(before), "all untouched")


@pytest.fixture
def never(tmp_path: Path) -> Path:
    """A `.tflite` with right digests whose graph never ends."""
    path = tmp_path / "never.tflite"
    endless(Artifact.open(MODEL)).save(path)
    return path


def test_a_model_that_never_ends_stops_nobody(never: Path, tmp_path: Path, ledger: Ledger) -> None:
    key = tmp_path / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True, capture_output=True)
    before = never.read_bytes()
    for command in (
        ("verify", never),
        ("sign", never, "--key", key),
        ("camera", never, "--verify-timeout", "2", "--state-dir", tmp_path / "none"),
    ):
        done = run_edgecnn(*command, timeout_s=60)
        assert done.is_one_line and "it never ends" in done.complaint, done
    assert never.read_bytes() == before
    live = Path(shutil.copy(MODEL, tmp_path / "live.tflite"))
    options = ("--source", "synthetic", "--verify-timeout", "2", "--state-dir", str(tmp_path / "state"))
    camera = CameraProcess(tmp_path, str(live), *options)
    with contextlib.closing(camera):
        wait_until(lambda: len(camera.lines) > 5, 60, "frames")
        shutil.copy(never, tmp_path / "new.tflite")
        (tmp_path / "new.tflite").replace(live)
        wait_until(lambda: "it never ends" in camera.said, 60, "refusal")
        seen = len(camera.lines)
        wait_until(lambda: len(camera.lines) > seen + 5, 20, "frames after it")
        camera.end()
    assert camera.returncode == 0
    (tmp_path / "again").mkdir()
    again = CameraProcess(tmp_path / "again", str(live), *options)
    with contextlib.closing(again):
        wait_until(lambda: len(again.lines) > 5, 60, "frames of the last good model")
        again.end()
    assert "running the last good model" in again.said

    ledger.note(TABLE, "a model that never ends: `verify`, `sign`, the start of a camera", 3, "refused in one line")
    outcome = "the old one ran on; after a restart the last good one ran, and said so"
    ledger.note(TABLE, "the same, put in the place of a running camera's model", 1, outcome)


def test_weights_in_another_file_are_refused_by_every_command(tmp_path: Path, ledger: Ledger) -> None:
    onnx = pytest.importorskip("onnx")
    key = tmp_path / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True, capture_output=True)
    source, cases = Artifact.open(MODEL), 0
    for location in ("outside.bin", "../outside.bin", "/etc/passwd"):
        tensor = onnx.numpy_helper.from_array(np.zeros((16, 3), np.float32), "w")
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location
        model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [tensor])).SerializeToString()
        contract = dataclasses.replace(source.contract, model_sha256=hashlib.sha256(model).hexdigest())
        path = tmp_path / "x.onnx"
        path.write_bytes(join_bytes(model, contract.to_json(), contract.labels, "onnx"))
        for command in (("verify", path), ("sign", path, "--key", key), ("camera", path, "--frames", "1")):
            done = run_edgecnn(*command, timeout_s=60)
            assert done.is_one_line and "in another file" in done.complaint, done
            cases += 1

    ledger.note(
        TABLE, "an `.onnx` whose weights stand in another file: `verify`, `sign`, `camera`", cases, "refused in one line"
    )


def test_a_saved_model_that_writes_a_file_is_not_run(tmp_path: Path, ledger: Ledger) -> None:
    code = (
        "import sys, tensorflow as tf\n"
        "class M(tf.Module):\n"
        "    @tf.function(input_signature=[tf.TensorSpec([None, 20, 20, 1], tf.float32)])\n"
        "    def __call__(self, x):\n"
        "        tf.io.write_file(sys.argv[2], 'yes')\n"
        "        return tf.nn.softmax(tf.reduce_mean(x, [1, 2]) * tf.ones([1, 2]))\n"
        "m = M()\n"
        "tf.saved_model.save(m, sys.argv[1], signatures={'serving_default': m.__call__})\n"
    )
    folder, written = tmp_path / "sm", tmp_path / "written"
    command = [sys.executable, "-c", code, str(folder), str(written)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    commands = (
        ("export", folder, "--labels", "a,b", "--out", tmp_path / "out"),
        ("parity", folder, MODEL, "--labels", "a,b"),
        ("evaluate", folder),
        ("robustness", folder),
    )
    slowest_s = 0.0
    for command_line in commands:
        started_s = time.monotonic()
        done = run_edgecnn(*command_line, timeout_s=200)
        slowest_s = max(slowest_s, time.monotonic() - started_s)
        assert done.code == 2 and "WriteFile" in done.complaint and "Traceback" not in done.err, done

    assert not written.exists()
    names = ", ".join(f"`{name}`" for name, *_ in commands)
    ledger.note(
        TABLE, f"a SavedModel that writes a file: {names}", len(commands), "refused by the name of the operation, unrun"
    )
