"""`loomax search`: an index is built, searched, and refused in one line."""

import json
import shutil
import socket

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
        (["search", "find", "x", "--k", "0"], "--k is 0"),
        (["search", "find", "x", "--k", "1001"], "--k is 1001"),
        (["search", "serve", "--port", "70000"], "--port is 70000"),
        (["search", "serve", "--port", "-1"], "--port is -1"),
        (["search", "ask", "x", "--url", "http://h/v1", "--name", "m", "--k", "0"], "--k is 0"),
        (["search", "ask", "x", "--model", "m", "--steps", "-1"], "--steps is -1"),
        (["search", "ask", "x", "--model", "m", "--seconds", "nan"], "--seconds is nan"),
        (["search", "ask", "x", "--model", "m", "--seconds", "0"], "--seconds is 0"),
        (["search", "ask", "", "--model", "m"], "question is empty"),
        (["search", "ask", "x", "--model", "m", "--boldness", "2"], "--boldness is 2"),
        (["search", "ask", "x", "--model", "m", "--seed", "9" * 20], "--seed is 9999"),
        (["search", "ask", "x", "--url", "h", "--name", "m"], "url is 'h'"),
    ],
)
def test_wrong_use_is_one_line(corpus, capsys, words, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main([str(corpus) if word == "CORPUS" else word for word in words])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def fails(words, capsys):
    """The exit code and the only line on stderr."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    (line,) = capsys.readouterr().err.strip().splitlines()
    return caught.value.code, line


def test_a_folder_with_its_own_index_is_indexed_again(corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["search", "index", "."]) == 0
        assert "2 documents" in capsys.readouterr().out
    assert main(["search", "find", "joints"]) == 0


def test_a_port_in_use_is_one_line(tmp_path, capsys, corpus):
    out = str(tmp_path / "index")
    main(["search", "index", str(corpus), "--out", out])
    capsys.readouterr()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, line = fails(["search", "serve", "--index", out, "--port", str(port)], capsys)
    assert code != 0 and f"cannot serve on 127.0.0.1 port {port}" in line


@pytest.mark.parametrize("how", ["gone", "pointer", "damaged"])
def test_a_broken_index_is_one_line_that_says_how_to_mend_it(tmp_path, capsys, corpus, how):
    out = tmp_path / "index"
    main(["search", "index", str(corpus), "--out", str(out)])
    if how == "pointer":
        (out / "current").write_bytes(b"\xff\x00")
    elif how == "gone":
        shutil.rmtree(out / (out / "current").read_text())
    else:
        (out / (out / "current").read_text() / "loomax.json").write_text("{")
    capsys.readouterr()
    for words in (["find", "x"], ["serve", "--port", "0"]):
        code, line = fails(["search", *words, "--index", str(out)], capsys)
        assert code == 2 and f"loomax search index SOURCE --out {out}" in line
    # What is advised works.
    assert main(["search", "index", str(corpus), "--out", str(out)]) == 0
    assert main(["search", "find", "joints", "--index", str(out)]) == 0


def test_an_index_that_cannot_be_written_is_one_line(tmp_path, capsys, corpus):
    (tmp_path / "file").write_text("")
    words = ["search", "index", str(corpus), "--out", str(tmp_path / "file" / "index")]
    code, line = fails(words, capsys)
    assert code == 2 and "file" in line


def test_a_trace_to_nowhere_is_told_before_the_run(tmp_path, capsys):
    """The endpoint is asked nothing: there is none."""
    trace = str(tmp_path)
    words = ["search", "ask", "x", "--url", "http://127.0.0.1:9/v1", "--name", "m"]
    code, line = fails([*words, "--trace", trace], capsys)
    assert code == 2 and trace in line and "trace" in line
