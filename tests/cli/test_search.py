"""`loomax search`: an index is built, searched, and refused in one line."""

import json

import pytest

from loomax.cli.main import main


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.jsonl"
    documents = [
        {"id": "a", "title": "Arms", "text": "Seven joints lift a cube."},
        {"id": "b", "title": "Tables", "text": "A table holds cubes and discs."},
    ]
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


@pytest.mark.parametrize("engine", ["bm25s", "tantivy"])
def test_what_was_indexed_is_found(corpus, tmp_path, capsys, engine):
    pytest.importorskip(engine)
    out = tmp_path / "index"
    assert main(["search", "index", str(corpus), "--out", str(out), "--engine", engine]) == 0
    assert f"2 documents, {engine}: {out}" in capsys.readouterr().out
    assert main(["search", "find", "seven joints", "--index", str(out), "--k", "1"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[1:] == ["a", "Arms", *"Seven joints lift a cube.".split()]
    assert main(["search", "find", "zebra", "--index", str(out)]) == 0
    assert capsys.readouterr().out == "nothing found\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search", "indx"], "did you mean index"),
        (["search", "index", "absent"], "absent does not exist"),
        (["search", "index", "CORPUS", "--engine", "lucene"], "lucene"),
        (["search", "find", "x", "--index", "absent"], "absent"),
        (["search", "find", "x", "--k", "0"], "k is 0: give at least 1"),
    ],
)
def test_wrong_use_is_one_line(corpus, capsys, words, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main([str(corpus) if word == "CORPUS" else word for word in words])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
