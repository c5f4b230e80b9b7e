"""Corpora from files, and what is said about those that cannot be read."""

import json

import pytest

from loomax.agents.search.retrieval.build import build_index
from loomax.agents.search.retrieval.config import IndexConfig
from loomax.agents.search.retrieval.corpus import corpus_version, read_corpus, write_lines
from loomax.agents.search.retrieval.document import Document, contents, read_record


def lines(path, *rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def test_both_kinds_of_lines(tmp_path):
    path = lines(
        tmp_path / "a.jsonl",
        {"id": 0, "contents": '"A title"\nAnd text.\nMore.'},
        {"id": "x", "contents": "one line"},
        {"id": "y", "title": "T", "text": "caf\u00e9"},
        {"id": "z", "text": "no title"},
    )
    path.write_text(path.read_text() + "\n  \n")
    assert read_corpus(path) == [
        Document("0", "A title", "And text.\nMore."),
        Document("x", "", "one line"),
        Document("y", "T", "caf\u00e9"),
        Document("z", "", "no title"),
    ]


def test_what_was_written_is_read(tmp_path):
    made = [Document("1", 'a "b"', "c\nd"), Document("2", "", "\u2028 \u00e9")]
    (tmp_path / "b.jsonl").write_text(write_lines(made), encoding="utf-8")
    assert read_corpus(tmp_path / "b.jsonl") == made


@pytest.mark.parametrize("title", ["", "plain", 'with "quotes"', '"'])
@pytest.mark.parametrize("text", ["", "text", "two\nlines"])
def test_contents_hold_title_and_text(title, text):
    document = Document("1", title, text)
    assert read_record({"id": "1", "contents": contents(document)}, "x") == document


def test_a_folder_is_read_below_too(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.md").write_text("text b")
    (tmp_path / "a.txt").write_text("text a")
    (tmp_path / "skip.png").write_bytes(b"\xff")
    (tmp_path / ".hidden.txt").write_text("no")
    lines(tmp_path / "c.jsonl", {"id": 1, "text": "t"})
    found = read_corpus(tmp_path)
    assert [(d.id, d.title, d.text) for d in found] == [
        ("a.txt", "a", "text a"),
        ("1", "", "t"),
        ("deep/b.md", "b", "text b"),
    ]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"{", r"x.jsonl:1 is not JSON"),
        (b"[]", "x.jsonl:1 is list; it must be a JSON object"),
        (b'{"contents": "a"}', 'has "id" None; it must be a string or an integer'),
        (b'{"id": true, "text": "a"}', 'has "id" True'),
        (b'{"id": 1, "body": "a"}', r'no "contents" and no "text" \(it has: id, body\)'),
        (b'{"id": 1, "text": 3}', 'has "text" 3; it must be a string'),
        (b'{"id": 1, "text": "\\ud800"}', "half of a surrogate pair"),
        (b'{"id": 1, "text": "a\\u0000"}', "holds a NUL character"),
        (b'{"id": 1, "text": "\xff"}', r"is not UTF-8 \(byte 19\)"),
        (b'{"id": 1, "text": "a"}\n{"id": "1", "text": "b"}', "two documents with id '1'"),
        (b"\n\n", "holds no documents"),
        (b"[" * 100_000, "x.jsonl:1 is n"),
        (b'{"id": "' + b"x" * 9 + b'\\udc80", "text": "a"}', '"id" holds half of a surrogate'),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, raw, message):
    (tmp_path / "x.jsonl").write_bytes(raw)
    with pytest.raises(ValueError, match=message):
        read_corpus(tmp_path / "x.jsonl")


def test_places_that_hold_no_corpus(tmp_path):
    with pytest.raises(ValueError, match="does not exist; give a folder or a .jsonl file"):
        read_corpus(tmp_path / "gone")
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(ValueError, match="is no corpus"):
        read_corpus(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="holds no documents"):
        read_corpus(tmp_path)


def test_what_loomax_writes_is_not_read_back(tmp_path):
    """An index, a run and a trace below the folder that is indexed."""
    (tmp_path / "a.md").write_text("text a")
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    lines(run / "metrics.jsonl", {"iteration": 1})
    (run / "config.json").write_text("{}")
    (run / "notes.md").write_text("of the run")
    lines(tmp_path / "trace.jsonl", {"time_s": 1.0, "kind": "start"})
    wanted = read_corpus(tmp_path, note=lambda text: None)
    assert [document.id for document in wanted] == ["a.md"]
    for out in ("indexes/default", "indexes/other", "mine"):
        build_index(tmp_path / out, wanted, IndexConfig(engine="bm25s"))
        told = []
        assert read_corpus(tmp_path, note=told.append) == wanted
        assert told == [f"left out {tmp_path}/trace.jsonl: its records are no documents"]
    # What a killed first build has left in the folder that it was told to fill.
    left = tmp_path / "half" / ".building.x"
    left.mkdir(parents=True)
    (left / "documents.jsonl").write_text(write_lines(wanted))
    (tmp_path / "half" / "b.md").write_text("b")
    assert read_corpus(tmp_path, skip=[tmp_path / "half"]) == wanted
    # Given itself, a file is read, or said to hold none.
    with pytest.raises(ValueError, match='trace.jsonl:1 has "id" None'):
        read_corpus(tmp_path / "trace.jsonl")


def test_a_name_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "caf\udce9.md").write_text("x")
    with pytest.raises(ValueError, match=r"the name of 'caf\\udce9.md' is not UTF-8: rename it"):
        read_corpus(tmp_path)


def test_links_are_followed_to_files_alone(tmp_path):
    (tmp_path / "a.md").write_text("a")
    (tmp_path / "gone.md").symlink_to(tmp_path / "absent")
    (tmp_path / "circle").symlink_to(tmp_path, target_is_directory=True)
    assert [document.id for document in read_corpus(tmp_path)] == ["a.md"]


def test_the_version_is_of_content_order_and_settings():
    one, two = Document("1", "a", "b"), Document("2", "a", "b")
    config = IndexConfig()
    versions = {
        corpus_version([one, two], config),
        corpus_version([two, one], config),
        corpus_version([one], config),
        corpus_version([Document("1", "ab", "")], config),
        corpus_version([one, two], IndexConfig(title_boost=3)),
    }
    assert len(versions) == 5
    assert corpus_version([one, two], config) == corpus_version(iter([one, two]), IndexConfig())
