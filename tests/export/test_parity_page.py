import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.artifacts.contract import DataInfo
from edgecnn.datasets.dataset import Dataset
from edgecnn_export.pages.parity import FLIPS_SHOWN, render_page, stems, write_page
from edgecnn_export.parity.compare import compare
from edgecnn_export.parity.figures import ParityReport

HOSTILE = "\"><script>alert('1')</script><img src=x onerror=alert(2)>&.png"


class Fixed:
    """A runtime that gives the first rows of fixed answers."""

    name = f"fixed {HOSTILE}"

    def __init__(self, class_ids: NDArray[np.int64]) -> None:
        self.probabilities = np.full((len(class_ids), 3), 0.1, np.float32)
        self.probabilities[np.arange(len(class_ids)), class_ids] = 0.8

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.probabilities[: len(images)]


def make_dataset(channels: int = 1, count: int = 300) -> Dataset:
    class_ids = np.arange(count, dtype=np.int64) % 3
    images = np.random.default_rng(0).integers(0, 256, (count, 6, 6, channels)).astype(np.uint8)
    return Dataset(images, class_ids, (HOSTILE,) * count)


def make_report(dataset: Dataset, flips: int, name: str = HOSTILE, synthetic: bool = False) -> ParityReport:
    flipped = dataset.class_ids.copy()
    flipped[:flips] = (flipped[:flips] + 1) % 3
    data = DataInfo(HOSTILE, "validation", len(dataset), "0" * 64, synthetic)
    labels = (HOSTILE, "b", "c")
    return compare(Fixed(dataset.class_ids), {name: Fixed(flipped)}, dataset, labels=labels, data=data)


class Collector(HTMLParser):
    """Collects the tags and the attributes that load or run something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


@pytest.fixture(scope="module")
def page() -> str:
    dataset = make_dataset()
    return render_page(make_report(dataset, flips=20), dataset=dataset, advice={HOSTILE: [HOSTILE]})


def test_the_page_loads_nothing_from_anywhere(page: str) -> None:
    addresses = Collector(page).addresses

    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert "@import" not in page
    assert "url(" not in page


def test_hostile_names_stay_text(page: str) -> None:
    found = Collector(page)

    assert "script" not in found.tags
    assert found.handlers == []


def test_the_page_forbids_scripts_and_requests(page: str) -> None:
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page


def test_the_verdict_stands_before_all_figures(page: str) -> None:
    body = page[page.index("<body>") :]

    assert body.index("Fail: 1 of 1 files") < body.index("<table")


def test_each_shown_flip_has_its_picture_and_two_stem_plots(page: str) -> None:
    tags = Collector(page).tags

    assert tags.count("img") == FLIPS_SHOWN
    assert tags.count("svg") == 2 * FLIPS_SHOWN


def test_the_flipped_picture_is_the_one_of_the_data_set() -> None:
    dataset = make_dataset(channels=3)

    found = Collector(render_page(make_report(dataset, flips=1), dataset=dataset)).addresses[0]

    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(found.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert (decoded[:, :, ::-1] == dataset.images[0]).all()


def test_a_page_without_pictures_still_shows_the_stems() -> None:
    tags = Collector(render_page(make_report(make_dataset(), flips=2))).tags

    assert (tags.count("img"), tags.count("svg")) == (0, 4)


def test_synthetic_pictures_are_said_loudly() -> None:
    page = render_page(make_report(make_dataset(), flips=0, synthetic=True))

    assert 'class="synthetic"' in page
    assert "SYNTHETIC" in page


def test_real_pictures_are_not_called_synthetic() -> None:
    page = render_page(make_report(make_dataset(), flips=0))

    assert "SYNTHETIC" not in page
    assert 'class="synthetic"' not in page


@pytest.mark.parametrize(
    ("flips", "words"), [(0, "Pass: no file loses more"), (1, "Undecided: 300 pictures"), (9, "Fail: 1 of 1")]
)
def test_each_verdict_is_said_in_words(flips: int, words: str) -> None:
    page = render_page(make_report(make_dataset(), flips))

    heading = re.search(r"<h1>(.*?)</h1>", page, re.DOTALL)
    assert heading is not None
    assert words in heading[1]


def test_a_class_that_the_reference_does_not_read_stands_in_the_headline() -> None:
    dataset = make_dataset()
    reference = np.where(dataset.class_ids == 1, 2, dataset.class_ids)
    report = compare(Fixed(reference), {"int8": Fixed(reference)}, dataset, labels=("a", "b", "c"))

    page = render_page(report)

    head = page[page.index("<body>") : page.index("<h2>")]
    assert "Reference: 200 of 300 pictures right" in head
    assert "Weak: b, 0 of 100 pictures right" in head


def test_unlabelled_pictures_are_agreed_upon_and_never_passed() -> None:
    dataset = make_dataset()
    data = DataInfo("loose", "whole", 300, "0" * 64, labelled=False)
    report = compare(Fixed(dataset.class_ids), {"int8": Fixed(dataset.class_ids)}, dataset, labels=("a", "b", "c"), data=data)

    page = render_page(report)

    assert "Agrees: 1 of 1 files answer 300 unlabelled pictures as the reference does" in page
    assert 'class="badge pass"' not in page


def test_each_term_is_explained_where_it_stands(page: str) -> None:
    explained = re.findall(r'<abbr title="([^"]+)">([^<]+)</abbr>', page)

    assert {name for _, name in explained} >= {"interval", "drop", "bound", "lost / gained", "McNemar", "difference", "ECE"}
    assert all(len(text) > 20 for text, _ in explained)


def test_the_same_report_gives_the_same_page() -> None:
    report = make_report(make_dataset(), flips=3)

    assert render_page(report) == render_page(report)


def test_the_page_is_written_as_a_file(tmp_path: Path) -> None:
    write_page(make_report(make_dataset(), flips=3), tmp_path / "parity.html")

    assert (tmp_path / "parity.html").read_text().startswith("<!doctype html>")


def test_a_certain_answer_has_the_highest_stem() -> None:
    heights = [stem["y"] for stem in stems((0.0, 1.0, 0.5))]

    assert heights == [100, 8, 54]
