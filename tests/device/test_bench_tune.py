"""`edgecnn bench --tune`: how many threads the runtime and OpenCV should use on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from published_schemas import check

from edgecnn.cli.main import cli
from edgecnn_device.bench.tune import Pools, Tuning, candidates, choose, faster_processors, tune, write_pools
from edgecnn_device.config import read_values


def test_four_processors_are_tried_with_one_two_and_four_threads_each() -> None:
    assert {(each.threads, each.opencv_threads) for each in candidates(4)} == {(a, b) for a in (1, 2, 4) for b in (1, 2, 4)}


def test_the_number_of_faster_processors_is_tried_too() -> None:
    assert Pools(3, 1) in candidates(8, faster=3)


def test_more_threads_that_save_little_are_not_chosen() -> None:
    assert choose({Pools(1, 1): 10.0, Pools(2, 1): 9.7, Pools(2, 2): 9.8}) == Pools(1, 1)


def test_more_threads_that_save_much_are_chosen() -> None:
    assert choose({Pools(1, 1): 10.0, Pools(2, 1): 6.0, Pools(2, 2): 5.9}) == Pools(2, 1)


def test_on_one_processor_nothing_is_measured() -> None:
    assert tune("neu", runs=1, seconds=0.1, processors=1) == Tuning({}, Pools(1, 1), faster_processors())


@pytest.mark.parametrize(("capacities", "expected"), [([446, 446, 1024, 1024], (2, 3)), ([1024] * 4, ()), ([], ())])
def test_the_faster_processors_are_those_of_the_largest_capacity(
    capacities: list[int], expected: tuple[int, ...], tmp_path: Path
) -> None:
    for number, capacity in enumerate(capacities):
        (tmp_path / f"cpu{number}").mkdir()
        (tmp_path / f"cpu{number}/cpu_capacity").write_text(f"{capacity}\n")

    assert faster_processors(tmp_path) == expected


@pytest.mark.parametrize(
    "before", ["", "threads = 1\n", "# threads =\nopencv-threads = 7\n", 'model = "neu"\n# opencv-threads =\nfps = 10.0\n']
)
def test_a_configuration_gets_both_numbers_and_keeps_the_rest(before: str, tmp_path: Path) -> None:
    path = tmp_path / "camera.toml"
    path.write_text(before)
    kept = {name: value for name, value in read_values(path).items() if "threads" not in name}

    write_pools(path, Pools(2, 4))

    assert read_values(path) == kept | {"threads": 2, "opencv-threads": 4}


def test_the_command_measures_chooses_and_writes(tmp_path: Path) -> None:
    path = tmp_path / "camera.toml"
    arguments = ["bench", "neu", "--tune", "--runs", "2", "--seconds", "0.05", "--config", str(path), "--json"]

    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)

    body = json.loads(done.stdout)
    check("bench", body)
    assert read_values(path)["threads"] == body["tune"]["chosen"]["threads"]


@pytest.mark.parametrize(
    "arguments", [["neu", "mnist", "--tune"], ["neu", "--tune", "--threads", "2"], ["neu", "--config", "camera.toml"]]
)
def test_what_would_be_ignored_is_refused(arguments: list[str]) -> None:
    done = CliRunner().invoke(cli, ["bench", *arguments])

    assert done.exit_code != 0
    assert "--tune" in str(done.exception) + done.output
