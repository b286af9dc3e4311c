"""Samples, their labels, and the ways out and in."""

from __future__ import annotations

import csv
import json
import multiprocessing
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sample_files import START, keep

from edgecnn.cli.samples import samples as command
from edgecnn.datasets.folder import task_from_folder
from edgecnn.errors import InputError, OutputError
from edgecnn.samples.exchange import _choice, export_samples, import_labels
from edgecnn.samples.folder import group_events, read_samples
from edgecnn.samples.labels import FILE, HEAD, LabelLog, check_label
from edgecnn.samples.likeness import ALIKE, decode_features, encode_features, group_alike


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    """Six samples in `tmp_path`, a minute apart."""
    return [keep(tmp_path, number, after_s=60.0 * number) for number in range(6)]


def holding(folder: Path) -> dict[str, str]:
    return {name: said.label for name, said in LabelLog(folder).read().of.items()}


def test_a_label_holds_and_says_who_and_when(tmp_path: Path, names: list[str]) -> None:
    LabelLog(tmp_path).label(names[:2], "dent", by="anna", at=START)

    said = LabelLog(tmp_path).read().of[names[1]]

    assert (said.label, said.act.by, said.act.at) == ("dent", "anna", "2026-01-02T03:04:05+00:00")


def test_an_undo_is_a_further_line_and_brings_back_what_was_said_before(tmp_path: Path, names: list[str]) -> None:
    log = LabelLog(tmp_path)
    log.label(names[:1], "dent", by="anna")
    log.label(names, "hole", by="anna")

    log.undo(by="anna")

    assert holding(tmp_path) == {names[0]: "dent"}
    assert len((tmp_path / FILE).read_text().splitlines()) == 4


def test_nobody_undoes_what_somebody_else_said(tmp_path: Path, names: list[str]) -> None:
    log = LabelLog(tmp_path)
    log.label(names, "dent", by="anna")

    with pytest.raises(InputError, match="nothing to undo for bob"):
        log.undo(by="bob")


def test_of_labels_that_contradict_each_other_the_latest_holds_and_says_so(tmp_path: Path, names: list[str]) -> None:
    log = LabelLog(tmp_path)
    log.label(names[:1], "dent", by="anna")
    log.label(names[:1], "hole", by="bob")

    said = log.read().of[names[0]]

    assert said.contradiction == "hole by bob is the latest and holds; before: dent by anna"


def test_a_correction_of_ones_own_is_no_contradiction(tmp_path: Path, names: list[str]) -> None:
    log = LabelLog(tmp_path)
    for label in ("dent", "hole"):
        log.label(names[:1], label, by="anna")

    assert log.read().of[names[0]].contradiction is None


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_that_a_kill_cut_is_not_counted_and_harms_no_other(tmp_path: Path, names: list[str], cut: int) -> None:
    log = LabelLog(tmp_path)
    log.label(names[:1], "dent", by="anna")
    log.label(names[1:2], "hole", by="anna")
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-cut])

    log.label(names[2:3], "dust", by="anna")

    labels = log.read()
    expected = {names[0]: "dent", names[2]: "dust"} | ({names[1]: "hole"} if cut == 1 else {})
    assert {name: said.label for name, said in labels.of.items()} == expected
    assert labels.damaged == (cut > 1)


@pytest.mark.parametrize("length", [0, 1, 20, len(HEAD) - 1, len(HEAD)])
def test_a_kill_in_the_first_line_leaves_a_log_that_can_be_used(tmp_path: Path, names: list[str], length: int) -> None:
    (tmp_path / FILE).write_bytes(HEAD[:length])
    assert holding(tmp_path) == {}

    LabelLog(tmp_path).label(names[:1], "dent", by="anna")

    assert holding(tmp_path) == {names[0]: "dent"}


def _label_often(folder: Path, name: str, by: str) -> None:
    for number in range(100):
        LabelLog(folder).label([name], f"class {number}", by=by)


def test_two_people_label_at_once_and_nothing_is_lost(tmp_path: Path, names: list[str]) -> None:
    spawn = multiprocessing.get_context("spawn")
    people = [spawn.Process(target=_label_often, args=(tmp_path, names[0], by)) for by in ("anna", "bob")]
    for each in people:
        each.start()
    for each in people:
        each.join()

    labels = LabelLog(tmp_path).read()
    said = [(act.by, act.label) for act in labels.acts]
    assert sorted(said) == sorted((by, f"class {n}") for by in ("anna", "bob") for n in range(100))
    assert labels.damaged == 0


@contextmanager
def small_files() -> Iterator[None]:
    """Let no file, the log of these tests neither, grow beyond 400 bytes: what a full disk does to a write, for any user."""
    limits, before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_is_one_line_and_leaves_the_log_as_it_was(tmp_path: Path, names: list[str]) -> None:
    log = LabelLog(tmp_path)
    log.label(names[:1], "dent", by="anna")
    before = (tmp_path / FILE).read_bytes()

    with small_files(), pytest.raises(OutputError, match="the label was not kept"):
        log.label(names, "a label of many letters that has no room any more", by="anna")

    assert (tmp_path / FILE).read_bytes() == before


def test_somebody_elses_file_of_the_same_name_is_left_alone(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / FILE).write_text("my notes\n")

    with pytest.raises(OutputError, match="not a log of labels"):
        LabelLog(tmp_path).label(names, "dent", by="anna")

    assert (tmp_path / FILE).read_text() == "my notes\n"


@pytest.mark.parametrize("label", ["", " ", "a/b", "..", "_x", ".x", "a\nb", "x" * 200, "test", "Train", "a\u202eb", "a\\b"])
def test_a_label_that_could_be_no_folder_is_refused(label: str) -> None:
    with pytest.raises(InputError):
        check_label(label)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=64).filter(lambda values: max(map(abs, values)) > 1e-3))
def test_features_keep_their_direction(values: list[float]) -> None:
    found = decode_features(encode_features(np.array(values)))

    assert found is not None
    assert float(found @ values) / float(np.linalg.norm(values)) > 0.99


@pytest.mark.parametrize("text", ["", "?", "AAAA", "é", "QUJ"])
def test_what_are_no_features_are_none(text: str) -> None:
    assert decode_features(text) is None


def test_what_looks_alike_is_one_group_within_one_model() -> None:
    one, other = np.eye(8)[0], np.eye(8)[1]
    near = np.array([1, ALIKE / 2, *[0] * 6]) / np.hypot(1, ALIKE / 2)

    assert group_alike([one, other, near, None, one], ["a", "a", "a", "a", "b"]) == [[0, 2], [1], [3], [4]]


def test_what_was_seen_close_in_time_or_looks_the_same_is_one_event(tmp_path: Path) -> None:
    times = (0.0, 8.0, 16.0, 100.0, 1000.0)
    axes = np.eye(8)[[0, 1, 2, 3, 3]].tolist()
    found = [keep(tmp_path, i, after_s=at, features=axis) for i, (at, axis) in enumerate(zip(times, axes, strict=True))]

    events = group_events(read_samples(tmp_path).samples)

    assert [events[name] for name in found] == [found[0]] * 3 + [found[3]] * 2


def test_damaged_samples_are_named_and_the_others_are_there(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / f"{names[0]}.json").write_text("{")
    (tmp_path / f"{names[1]}.json").write_text('{"regions": []}')
    (tmp_path / f"{names[2]}.json").unlink()

    found = read_samples(tmp_path)

    assert [sample.name for sample in found.samples] == names[3:]
    assert sorted(found.broken) == names[:3]


def test_a_sample_whose_picture_is_gone_is_one_line(tmp_path: Path, names: list[str]) -> None:
    LabelLog(tmp_path).label(names[:2], "dent", by="anna")
    (tmp_path / f"{names[0]}.png").unlink()

    listed = CliRunner().invoke(command, ["list", str(tmp_path)], catch_exceptions=False)
    exported = CliRunner().invoke(command, ["export", str(tmp_path), str(tmp_path / "out")], catch_exceptions=False)

    assert next(line for line in listed.output.splitlines() if names[0] in line).endswith("dent (picture is gone)")
    assert f"left out: {names[0]}: its picture is gone" in exported.output
    assert [path.name for path in (tmp_path / "out" / "dent").iterdir()] == [f"{names[1]}.png"]


def test_an_exported_folder_is_one_that_training_reads(tmp_path: Path, names: list[str]) -> None:
    log = LabelLog(tmp_path)
    for name, label in zip(names, ("dent", "dent", "hole", "hole", "_other", "_bad"), strict=True):
        log.label([name], label, by="anna")
    out = tmp_path / "out"

    done = export_samples(read_samples(tmp_path), log.read(), out, "folder")

    assert done.counts == {"_other": 1, "dent": 2, "hole": 2}
    assert done.left_out == {names[5]: "labelled as a bad picture"}
    assert task_from_folder(out, group_by=out / "samples.csv").labels == ("dent", "hole")
    assert (out / "_other" / f"{names[4]}.png").read_bytes() == (tmp_path / f"{names[4]}.png").read_bytes()


def test_siblings_are_exported_as_one_group(tmp_path: Path) -> None:
    found = [keep(tmp_path, number, after_s=5.0 * number) for number in range(4)]
    LabelLog(tmp_path).label(found, "dent", by="anna")

    export_samples(read_samples(tmp_path), LabelLog(tmp_path).read(), tmp_path / "out", "folder")

    with (tmp_path / "out" / "samples.csv").open() as file:
        assert {row["group"] for row in csv.DictReader(file)} == {found[0]}


def test_an_export_adds_to_a_folder_and_replaces_nothing(tmp_path: Path, names: list[str]) -> None:
    log, out = LabelLog(tmp_path), tmp_path / "out"
    (out / "dent").mkdir(parents=True)
    (out / "dent" / "mine.png").write_bytes(b"mine")
    for part in (names[:2], names[2:]):
        log.label(part, "dent", by="anna")
        export_samples(read_samples(tmp_path), log.read(), out, "folder")
    assert len(list((out / "dent").iterdir())) == 7
    assert len((out / "samples.csv").read_text().splitlines()) == 7
    (out / "dent" / f"{names[0]}.png").write_bytes(b"another picture")

    with pytest.raises(OutputError, match="is another picture"):
        export_samples(read_samples(tmp_path), log.read(), out, "folder")

    assert (out / "dent" / "mine.png").read_bytes() == b"mine"


@pytest.mark.parametrize(("form", "file"), [("folder", "out"), ("csv", "out.csv"), ("label-studio", "out.json")])
def test_what_was_exported_comes_back_in_another_folder(tmp_path: Path, names: list[str], form: str, file: str) -> None:
    log = LabelLog(tmp_path)
    log.label(names[:3], "dent", by="anna")
    log.label(names[3:4], "_other", by="anna")
    export_samples(read_samples(tmp_path), log.read(), tmp_path / file, form)  # type: ignore[arg-type]
    expected = holding(tmp_path)
    (tmp_path / FILE).rename(tmp_path / "old.jsonl")

    done = import_labels(read_samples(tmp_path), log, tmp_path / file, by="bob")

    assert holding(tmp_path) == expected
    assert done.counts == {"_other": 1, "dent": 3}
    assert import_labels(read_samples(tmp_path), log, tmp_path / file, by="bob").unchanged == 4


def test_label_studios_own_names_of_uploaded_files_are_understood(tmp_path: Path, names: list[str]) -> None:
    result = {"type": "choices", "from_name": "x", "to_name": "y", "value": {"choices": ["dent"]}}
    task = {"id": 1, "data": {"image": f"/data/upload/1/3f2a-{names[0]}.png"}, "annotations": [{"result": [result]}]}
    (tmp_path / "in.json").write_text(json.dumps([task, {"id": 2, "data": {"image": "x.png"}, "annotations": []}]))

    import_labels(read_samples(tmp_path), LabelLog(tmp_path), tmp_path / "in.json", by="anna")

    assert holding(tmp_path) == {names[0]: "dent"}


@pytest.mark.parametrize("content", ["{", "[1]", '[{"annotations": 3, "data": {"image": "a"}}]', "file,class\na,b\n", ""])
def test_a_file_of_no_labels_is_one_line(tmp_path: Path, names: list[str], content: str) -> None:
    source = tmp_path / ("in.json" if content[:1] in "{[" and content else "in.csv")
    source.write_text(content)

    with pytest.raises(InputError):
        import_labels(read_samples(tmp_path), LabelLog(tmp_path), source, by="anna")

    assert holding(tmp_path) == {}


def test_a_class_that_could_be_a_path_is_refused_and_named(tmp_path: Path, names: list[str]) -> None:
    task = {"data": {"image": f"{names[0]}.png"}, "annotations": [{"result": [_choice("../../evil")]}]}
    (tmp_path / "in.json").write_text(json.dumps([task]))

    with pytest.raises(InputError, match=rf"labels no sample of .*; {names[0]}: .*evil"):
        import_labels(read_samples(tmp_path), LabelLog(tmp_path), tmp_path / "in.json", by="anna")


def test_a_file_with_a_path_out_of_the_folder_is_left_out(tmp_path: Path, names: list[str]) -> None:
    tasks = [
        {"data": {"image": image}, "annotations": [{"result": [_choice("dent")]}]}
        for image in ("/data/upload/1/../../../etc/passwd", f"{names[0]}.png")
    ]
    (tmp_path / "in.json").write_text(json.dumps(tasks))

    done = import_labels(read_samples(tmp_path), LabelLog(tmp_path), tmp_path / "in.json", by="anna")

    assert (done.counts, list(done.left_out)) == ({"dent": 1}, ["/data/upload/1/../../../etc/passwd"])


def test_the_command_labels_undoes_and_lists(tmp_path: Path, names: list[str]) -> None:
    def run(*arguments: str) -> str:
        return CliRunner().invoke(command, [arguments[0], str(tmp_path), *arguments[1:]], catch_exceptions=False).output

    assert "2 samples labelled dent by anna" in run("label", f"{names[0]}.png", names[1], "--as", "dent", "--by", "anna")
    run("label", names[0], "--bad", "--by", "bob")
    listed = run("list", "--unlabelled")
    assert all(name not in listed for name in names[:2]) and "4 samples shown of 6, 2 labelled" in listed
    assert f"{names[0]}: _bad by bob is the latest and holds; before: dent by anna" in run("list")
    assert run("label", "--undo", "--by", "bob") == f"taken back: _bad on 1 sample ({names[0]})\n"
    assert holding(tmp_path) == dict.fromkeys(names[:2], "dent")


def test_a_label_that_differs_from_a_known_class_by_case_alone_is_noted(tmp_path: Path, names: list[str]) -> None:
    LabelLog(tmp_path).label(names[:1], "Dent", by="anna")

    done = CliRunner().invoke(command, ["label", str(tmp_path), names[1], "--as", "dent"], catch_exceptions=False)

    assert "note: the classes 'Dent' and 'dent' differ only by case or spaces: are they one? --undo" in done.stderr
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("rust", "note: 'rust' is a new class of these samples (known: dent, good). --undo takes the label back\n"),
        ("dents", "note: 'dents' is a new class of these samples (did you mean 'dent'?). --undo takes the label back\n"),
        ("dent", ""),
        ("good", ""),
        ("_other", ""),
    ],
)
def test_a_class_that_no_sample_had_is_noted(tmp_path: Path, names: list[str], label: str, said: str) -> None:
    LabelLog(tmp_path).label(names[:1], "dent", by="anna")

    done = CliRunner().invoke(command, ["label", str(tmp_path), names[1], "--as", label], catch_exceptions=False)

    assert done.stderr == said


def test_an_undo_names_the_first_of_many_samples(tmp_path: Path, names: list[str]) -> None:
    LabelLog(tmp_path).label(names, "dent", by="anna")

    done = CliRunner().invoke(command, ["label", str(tmp_path), "--undo", "--by", "anna"], catch_exceptions=False)

    assert done.stdout == f"taken back: dent on 6 samples ({', '.join(names[:3])}, ...)\n"


@pytest.mark.parametrize("label", ["", " ", "a\nb", "\x1b[2J", "\udcff"])
def test_a_label_that_was_typed_is_not_called_a_folder(label: str) -> None:
    with pytest.raises(InputError, match="label is empty" if not label.strip() else "cannot be the name of a class") as caught:
        check_label(label)

    assert "folder" not in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize(("guesses", "answer"), [(["good"], "novel"), (["good", "dent"], "novel (good?)")])
def test_a_novel_answer_of_a_model_of_good_parts_alone_has_no_guess(tmp_path: Path, guesses: list[str], answer: str) -> None:
    for number, nearest in enumerate(guesses):
        keep(tmp_path, number, after_s=60.0 * number, label=None, verdict="novel", nearest=nearest, novelty=1.2)

    done = CliRunner().invoke(command, ["list", str(tmp_path)], catch_exceptions=False)

    assert f"  {answer}  " in done.stdout.splitlines()[1]


def test_an_unknown_sample_is_one_line(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(InputError, match="has no sample 'nowhere'"):
        CliRunner().invoke(command, ["label", str(tmp_path), "nowhere", "--as", "x"], catch_exceptions=False)
