"""The page on which samples are labelled: what it shows, who may change what, and what happens when things go wrong."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from sample_files import keep
from web_page import serve

from edgecnn.artifacts import Artifact
from edgecnn.cli.review import review
from edgecnn.errors import InputError
from edgecnn.samples.labels import FILE, LabelLog
from edgecnn.shipped import int8_path
from edgecnn_device.web.auth import ACTION_HEADER, CSRF_HEADER, Guard
from edgecnn_device.web.neighbours import TrainingPictures, training_files
from edgecnn_device.web.options import WebOptions, read_web_options
from edgecnn_device.web.review_server import serve_review

READER, EDITOR = "a-token-to-look-0123456789", "a-token-to-label-0123456789"


class Visitor:
    """Somebody with a token, or with none, who asks a served page."""

    def __init__(self, port: int, token: str | None = None) -> None:
        self._port = port
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, headers=self.headers | {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def review(self, **query: str) -> Any:
        return json.loads(self.ask(f"/api/review?{urlencode(query)}")[1])

    def change(self, what: str, csrf: str | None = None, **query: Any) -> tuple[int, Any]:
        token = self.review()["csrf"] if csrf is None else csrf
        headers = {ACTION_HEADER: "review", CSRF_HEADER: token}
        status, body = self.ask(f"/api/review/{what}?{urlencode(query, doseq=True)}", "POST", **headers)
        return status, json.loads(body) if body.startswith(b"{") else body.decode()


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    return [keep(tmp_path, number, after_s=60.0 * number, probability=0.9 - 0.1 * number) for number in range(4)]


@contextlib.contextmanager
def served(folder: Path, token: str | None = None, editor: str | None = None) -> Iterator[int]:
    with serve_review(folder, WebOptions("127.0.0.1", 0, token, editor)) as address:
        yield int(address.rstrip("/").rpartition(":")[2])


def holding(folder: Path) -> dict[str, str]:
    return {name: said.label for name, said in LabelLog(folder).read().of.items()}


def test_the_most_doubtful_stands_first(tmp_path: Path, names: list[str]) -> None:
    with served(tmp_path) as port:
        shown = [group[0]["sample"] for group in Visitor(port).review()["groups"]]

    assert shown == names[::-1]


def test_what_looks_alike_is_one_group(tmp_path: Path) -> None:
    axes = np.eye(8)
    found = [keep(tmp_path, i, after_s=60.0 * i, features=axes[i % 2].tolist()) for i in range(6)]
    with served(tmp_path) as port:
        groups = [{each["sample"] for each in group} for group in Visitor(port).review(sort="newest")["groups"]]

    assert groups == [set(found[1::2]), set(found[0::2])]


def test_a_picture_is_what_was_kept(tmp_path: Path, names: list[str]) -> None:
    with served(tmp_path) as port:
        status, body = Visitor(port).ask(f"/api/review/picture?sample={names[0]}")

    assert (status, body) == (200, (tmp_path / f"{names[0]}.png").read_bytes())


@pytest.mark.parametrize("name", ["", "../secret", "secret", "%2e%2e%2fsecret", "/etc/passwd", "20260102T030405.678901Z-9-9"])
def test_no_other_file_is_served(tmp_path: Path, names: list[str], name: str) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "20260102T030405.678901Z-9-9.png").symlink_to(tmp_path / "secret.png")
    with served(tmp_path) as port:
        assert Visitor(port).ask(f"/api/review/picture?sample={name}")[0] == 404


def test_a_label_is_in_the_log_before_it_is_answered(tmp_path: Path, names: list[str]) -> None:
    with served(tmp_path) as port:
        status, _ = Visitor(port).change("label", label="dent", by="anna", sample=names[:2])
        said = LabelLog(tmp_path).read().of[names[0]]

    assert status == 200
    assert (said.label, said.act.by, holding(tmp_path)) == ("dent", "anna", dict.fromkeys(names[:2], "dent"))


def test_an_undo_takes_back_the_act(tmp_path: Path, names: list[str]) -> None:
    with served(tmp_path) as port:
        _, act = Visitor(port).change("label", label="dent", by="anna", sample=names)
        status, _ = Visitor(port).change("undo", act=act["act"], by="anna")

    assert (status, holding(tmp_path)) == (200, {})


def test_two_editors_hear_of_each_other(tmp_path: Path, names: list[str]) -> None:
    with served(tmp_path) as port:
        Visitor(port).change("label", label="dent", by="anna", sample=names[:1])
        _, answer = Visitor(port).change("label", label="hole", by="bob", sample=names[:2])
        shown = Visitor(port).review(show="contradicted")["groups"]

    assert answer["contradicts"] == {names[0]: "hole by bob is the latest and holds; before: dent by anna"}
    assert [sample["sample"] for group in shown for sample in group] == names[:1]


def test_two_editors_at_once_lose_nothing(tmp_path: Path, names: list[str]) -> None:
    def label(by: str) -> None:
        for number in range(30):
            assert Visitor(port).change("label", label=f"class {number}", by=by, sample=names[:1])[0] == 200

    with served(tmp_path) as port:
        editors = [threading.Thread(target=label, args=(by,)) for by in ("anna", "bob")]
        for editor in editors:
            editor.start()
        for editor in editors:
            editor.join()

    acts = LabelLog(tmp_path).read().acts
    assert {(act.by, act.label) for act in acts} == {(by, f"class {n}") for by in ("anna", "bob") for n in range(30)}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {ACTION_HEADER: "review"},
        {ACTION_HEADER: "review", CSRF_HEADER: ""},
        {ACTION_HEADER: "review", CSRF_HEADER: "5.abc"},
        {ACTION_HEADER: "review", CSRF_HEADER: "nan.abc"},
        {ACTION_HEADER: "review", CSRF_HEADER: "999999999999." + "0" * 64},
    ],
)
def test_a_page_of_elsewhere_changes_nothing(tmp_path: Path, names: list[str], headers: dict[str, str]) -> None:
    with served(tmp_path) as port:
        status, _ = Visitor(port).ask(f"/api/review/label?label=dent&by=eve&sample={names[0]}", "POST", **headers)

    assert (status, (tmp_path / FILE).exists()) == (403, False)


def test_a_link_or_a_form_changes_nothing(tmp_path: Path, names: list[str]) -> None:
    path = f"/api/review/label?label=dent&by=eve&sample={names[0]}"
    form = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": "3", ACTION_HEADER: "review"}
    with served(tmp_path) as port:
        visitor = Visitor(port)
        refused = visitor.ask(path)[0], visitor.ask(path, "POST", **form)[0]

    assert refused == (405, 413)
    assert holding(tmp_path) == {}


def test_a_token_that_expired_is_refused_and_a_fresh_one_is_not() -> None:
    now_s = [1000.0]
    guard = Guard(lambda *_: None, WebOptions("127.0.0.1", 0), 1, clock=lambda: now_s[0])  # type: ignore[arg-type,return-value]
    scope = {"type": "http", "path": "/api/review/label", "method": "POST", "query_string": b"", "headers": []}
    old = guard.csrf_token(scope)
    now_s[0] += 12 * 3600

    def refusal(token: str) -> int | None:
        sent = {"host": "localhost", ACTION_HEADER: "review", CSRF_HEADER: token}
        headers = [(name.encode(), value.encode()) for name, value in sent.items()]
        answer = guard._refusal(scope | {"headers": headers})
        return None if answer is None else answer.status_code

    assert (refusal(old), refusal(guard.csrf_token(scope))) == (403, None)


@pytest.mark.parametrize("token", [None, "wrong-token-0123456789"])
def test_without_a_token_nothing_is_told_and_nothing_changed(tmp_path: Path, names: list[str], token: str | None) -> None:
    with served(tmp_path, READER, EDITOR) as port:
        visitor, csrf = Visitor(port, token), Visitor(port, EDITOR).review()["csrf"]
        paths = ("/", "/review.js", "/api/review", f"/api/review/picture?sample={names[0]}")
        refused = [visitor.ask(path)[0] for path in paths]
        refused.append(visitor.change("label", csrf, label="dent", by="eve", sample=names)[0])

    assert refused == [401] * 5
    assert holding(tmp_path) == {}


def test_a_reader_may_look_and_not_label(tmp_path: Path, names: list[str]) -> None:
    with served(tmp_path, READER, EDITOR) as port:
        reader, editor = Visitor(port, READER), Visitor(port, EDITOR)
        shown = reader.review()
        stolen = editor.review()["csrf"]
        refused = [reader.change("label", csrf, label="dent", by="r", sample=names)[0] for csrf in (shown["csrf"], stolen)]
        of_the_reader = editor.change("label", shown["csrf"], label="dent", by="e", sample=names)[0]
        accepted = editor.change("label", label="dent", by="e", sample=names)[0]

    assert (len(shown["groups"]), shown["may_edit"]) == (4, False)
    assert (refused, of_the_reader, accepted) == ([403, 403], 403, 200)


def test_a_readers_token_alone_lets_nobody_label(tmp_path: Path, names: list[str]) -> None:
    with served(tmp_path, READER) as port:
        assert Visitor(port, READER).change("label", label="dent", by="r", sample=names)[0] == 403


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"label": "a/b", "by": "anna"}, "cannot be the name of a class"),
        ({"label": "", "by": "anna"}, "the label is empty; give the name of a class"),
        ({"label": "dent", "by": ""}, "is not a name"),
        ({"label": "dent", "by": "anna", "sample": ["../x"]}, "not the name of a sample"),
        ({"label": "dent", "by": "anna", "sample": []}, "no samples"),
    ],
)
def test_what_cannot_be_said_is_one_line(tmp_path: Path, names: list[str], query: dict[str, Any], words: str) -> None:
    with served(tmp_path) as port:
        status, body = Visitor(port).change("label", **({"sample": names[:1]} | query))

    assert status == 409 and words in body["error"]
    assert holding(tmp_path) == {}


def test_a_sample_whose_picture_went_meanwhile_stays_in_the_list(tmp_path: Path, names: list[str]) -> None:
    with served(tmp_path) as port:
        visitor = Visitor(port)
        visitor.review()
        (tmp_path / f"{names[0]}.png").unlink()
        (tmp_path / f"{names[1]}.png").unlink()
        (tmp_path / f"{names[1]}.json").unlink()
        shown = {each["sample"]: each["picture"] for group in visitor.review()["groups"] for each in group}

    assert shown == {names[0]: False, names[2]: True, names[3]: True}


def test_a_log_of_somebody_else_is_one_line_and_untouched(tmp_path: Path, names: list[str]) -> None:
    with served(tmp_path) as port:
        visitor = Visitor(port)
        csrf = visitor.review()["csrf"]
        (tmp_path / FILE).write_text("my notes\n")
        status, body = visitor.change("label", csrf, label="dent", by="anna", sample=names[:1])

    assert status == 507 and "not a log of labels" in body["error"]
    assert (tmp_path / FILE).read_text() == "my notes\n"


def test_a_camera_that_keeps_samples_has_the_review_as_a_tab(tmp_path: Path, names: list[str]) -> None:
    with serve(samples=tmp_path) as page:
        assert b'href="review"' in page.ask("/")[2]
        assert page.status("/review") == page.status("/review.js") == 200
        assert page.json("/api/review")["classes"][:3] == ["dark", "gray", "light"]


def test_a_camera_that_keeps_none_has_no_tab() -> None:
    with serve() as page:
        assert b'href="review"' not in page.ask("/")[2]
        assert page.status("/api/review") == 404


def test_a_folder_that_is_none_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"), served(tmp_path / "gone"):
        pass


def test_reader_and_editor_need_tokens_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(READER)

    with pytest.raises(InputError, match="the same token"):
        read_web_options("127.0.0.1:0", tmp_path / "token", tmp_path / "token")


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """Two class folders of noise: even and odd numbers are drawn in another grain."""
    for number in range(6):
        label = ("coarse", "fine")[number % 2]
        (tmp_path / "parts" / label).mkdir(parents=True, exist_ok=True)
        side = 8 if label == "coarse" else 100
        noise = np.random.default_rng(number).integers(0, 256, (side, side), np.uint8)
        cv2.imwrite(str(tmp_path / "parts" / label / f"{number}.png"), cv2.resize(noise, (200, 200)))
    return tmp_path / "parts"


def test_the_nearest_training_pictures_stand_beside_a_sample(tmp_path: Path, names: list[str], training: Path) -> None:
    shutil.copy(training / "fine" / "3.png", tmp_path / f"{names[0]}.png")
    with serve_review(tmp_path, WebOptions("127.0.0.1", 0), TrainingPictures("neu", training)) as address:
        visitor = Visitor(int(address.rstrip("/").rpartition(":")[2]))
        near = json.loads(visitor.ask(f"/api/review/nearest?sample={names[0]}")[1])["nearest"]
        status, picture = visitor.ask(f"/api/review/training?number={near[0]['number']}")
        others = [visitor.ask(f"/api/review/training?number={number}")[0] for number in ("6", "-1", "x", "")]
        has_training = visitor.review()["has_training"]

    assert has_training
    assert (near[0]["name"], near[0]["distance"]) == ("fine/3.png", 0.0)
    assert [each["label"] for each in near[:3]] == ["fine"] * 3
    assert (status, picture[:4], others) == (200, b"\x89PNG", [404] * 4)


def test_classes_of_the_model_can_be_chosen_that_no_sample_has(tmp_path: Path, names: list[str], training: Path) -> None:
    with serve_review(tmp_path, WebOptions("127.0.0.1", 0), TrainingPictures("neu", training)) as address:
        classes = Visitor(int(address.rstrip("/").rpartition(":")[2])).review()["classes"]

    assert classes[:6] == list(Artifact.open(int8_path("neu")).contract.labels)


def test_a_review_without_a_model_says_that_it_offers_the_classes_of_the_samples_only(
    tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecnn_device.web.review_server.wait_for_signal", lambda: None)

    done = CliRunner().invoke(review, [str(tmp_path), "--web", "0"], catch_exceptions=False)

    assert "classes of these samples only; --model FILE --data RUN|DIR adds all classes of the model" in done.stderr


def test_of_a_run_the_pictures_that_it_was_trained_on_are_shown(tmp_path: Path, training: Path) -> None:
    (tmp_path / "run" / "added" / "fine").mkdir(parents=True)
    lines = ["file,sha256,label,split,group", "coarse/0.png,,coarse,train,", "coarse/2.png,,coarse,test,"]
    (tmp_path / "run" / "splits.csv").write_text("\n".join([*lines, ".run/added/fine/9.png,,fine,train,"]) + "\n")
    (tmp_path / "run" / "training.json").write_text(json.dumps({"data_folder": str(training)}))

    found = [file.path for file in training_files(tmp_path / "run")]

    assert found == [training / "coarse" / "0.png", tmp_path / "run" / "added" / "fine" / "9.png"]


def test_without_training_pictures_there_are_no_nearest_ones(tmp_path: Path, names: list[str]) -> None:
    with served(tmp_path) as port:
        visitor = Visitor(port)
        assert not visitor.review()["has_training"]
        assert json.loads(visitor.ask(f"/api/review/nearest?sample={names[0]}")[1]) == {"nearest": []}
