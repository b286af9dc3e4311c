from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgecnn.testing import JumpingClock
from edgecnn_device.sources import decoder_log
from edgecnn_device.sources.decoder_log import Damage

CLIPS = Path(__file__).parent / "clips"
CONCEALED = "[OPENCV:FFMPEG:32] concealing 40 DC, 40 AC, 40 MV errors in P frame\n"

# Prints the damage of each picture of the video in its argument, as the reader process sees it.
READ_ALL = """
import json, os, sys
result = os.fdopen(os.dup(1), "w")
from edgecnn.errors import CameraError
from edgecnn_device.sources import decoder_log
from edgecnn_device.sources.process import Request
from edgecnn_device.sources.stream import open_stream
words, damage, found = decoder_log.listen(), decoder_log.Damage(), []
read = open_stream(Request("stream", sys.argv[1]))
try:
    while True:
        read()
        found.append(damage.after(words(), read.kind_of_last()))
except CameraError:
    json.dump(found, result)
"""


def damages(path: Path) -> list[str]:
    command = [sys.executable, "-c", READ_ALL, str(path)]
    environment = os.environ | {"OPENCV_FFMPEG_LOGLEVEL": str(decoder_log.LEVEL)}
    found = subprocess.run(command, capture_output=True, check=True, timeout=120, env=environment).stdout
    return [str(damage) for damage in json.loads(found)]


def test_the_decoder_says_which_pictures_of_a_damaged_stream_are_torn() -> None:
    torn = [bool(damage) for damage in damages(CLIPS / "torn-h264.ts")]

    # The second of three groups of eight: all pictures that build on its damaged first one.
    assert torn == [False] * 8 + [True] * 8 + [False] * 8


def test_a_whole_stream_is_not_torn() -> None:
    assert damages(CLIPS / "interlaced-tff.ts") == [""] * 6


def test_damage_lasts_until_a_picture_that_needs_no_other() -> None:
    damage = Damage(JumpingClock())

    told = [damage.after(text, kind) for text, kind in [("", "I"), (CONCEALED, "P"), ("", "P"), ("", "I"), ("", "P")]]

    assert [bool(what) for what in told] == [False, True, True, False, False]


def test_with_reordered_pictures_the_words_come_before_the_picture_that_they_are_about() -> None:
    damage = Damage(JumpingClock())
    damage.after("", "B")
    damage.after(CONCEALED, "P")

    assert damage.after("", "I")
    assert [bool(damage.after("", kind)) for kind in "BBBPI"] == [True, True, True, True, False]


def test_damage_ends_after_a_while_in_a_stream_that_renews_its_pictures_in_parts() -> None:
    clock = JumpingClock()
    damage = Damage(clock)
    damage.after(CONCEALED, "P")

    clock.now_s += 19
    assert damage.after("", "P")
    clock.now_s += 2
    assert not damage.after("", "P")


@pytest.mark.parametrize("habit", ["mmco: unref short failure", "overread 8", "deprecated pixel format used", "no frame!"])
def test_what_decoders_say_of_whole_pictures_too_is_no_damage(habit: str) -> None:
    assert not Damage(JumpingClock()).after(f"[OPENCV:FFMPEG:16] {habit}\n", "P")


def test_an_unwritten_buffer_is_told_from_the_words_of_the_scaler() -> None:
    text = "[OPENCV:FFMPEG:16] Cannot convert interlaced to progressive frames or vice versa.\n"

    assert decoder_log.not_written(text)
    assert "opencv-python-headless<4.13" in decoder_log.explain(text)
    assert not decoder_log.not_written(CONCEALED)
