"""Every format gives the same documents; what cannot be read is named by file and place."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from loomax.agents.pretrain.config import DataConfig
from loomax.agents.pretrain.documents import load_documents
from loomax.agents.pretrain.presets import CONFIGS

DATA = DataConfig(held_out=0.0)


def write_jsonl(path, texts):
    lines = [json.dumps({"id": number, "text": text}) for number, text in enumerate(texts)]
    # Blank lines are no documents.
    path.write_text("\n\n".join(lines))
    return path


def write_records(path, texts):
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for text in texts:
        writer.write(text.encode() if isinstance(text, str) else text)
    writer.close()
    return path


def load(path, **changes):
    return load_documents(replace(DATA, path=str(path), **changes))


def refusal(path, **changes):
    with pytest.raises(ValueError) as caught:
        load(path, **changes)
    return str(caught.value)


def test_every_format_gives_the_same_documents(folder, texts, tmp_path):
    texts = [*texts, "zwei\nZeilen, ünïcode\r\n"]
    (tmp_path / "last.txt").write_bytes(texts[-1].encode())
    sources = {
        "text": load(folder),
        "jsonl": load(write_jsonl(tmp_path / "a.jsonl", texts)),
        "arrayrecord": load(write_records(tmp_path / "a.array_record", texts)),
    }
    for kind, documents in sources.items():
        count = len(texts) - (kind == "text")
        assert [documents[number] for number in range(len(documents.readers))] == texts[:count]
        assert documents.train == tuple(range(count)) and documents.held_out == ()
    assert load(tmp_path / "last.txt")[0] == texts[-1]
    assert sources["jsonl"].fingerprint == sources["arrayrecord"].fingerprint
    assert sources["text"].fingerprint != sources["jsonl"].fingerprint


def test_files_of_a_folder_are_chosen_by_pattern(tmp_path, texts):
    (tmp_path / "inner").mkdir()
    for name in ("b.md", "a.md", "inner/c.md", "d.txt"):
        (tmp_path / name).write_text(name)
    assert [read() for read in load(tmp_path, files="*.md").readers] == ["a.md", "b.md"]
    deep = load(tmp_path, files="**/*.md")
    assert sorted(read() for read in deep.readers) == ["a.md", "b.md", "inner/c.md"]
    write_jsonl(tmp_path / "e.jsonl", texts)
    assert len(load(tmp_path).readers) == 3 + len(texts)


def test_the_default_is_the_standard_library():
    documents = load_documents(CONFIGS["yoco-tiny"].data)
    names = {Path(read.args[0]).name for read in documents.readers}
    assert {"ast.py", "tokenize.py", "dataclasses.py"} <= names
    assert len(documents.held_out) > 0


def test_a_document_stays_on_its_side(tmp_path):
    """Whatever is beside it, and wherever it stands."""
    texts = [f"document {number}" for number in range(300)]
    some, reverse = texts[:150], texts[::-1]
    sides = []
    for name, chosen in (("some", some), ("all", texts), ("reverse", reverse)):
        documents = load(write_jsonl(tmp_path / f"{name}.jsonl", chosen), held_out=0.2)
        assert sorted(documents.train + documents.held_out) == list(range(len(chosen)))
        sides.append({chosen[number] for number in documents.held_out})
    # 60 are expected, with a standard deviation of 7.
    assert 32 < len(sides[1]) < 88
    assert sides[0] == sides[1] & set(some) and sides[1] == sides[2]


def test_twins_lie_on_one_side(tmp_path):
    texts = [f"document {number % 50}" for number in range(100)]
    documents = load(write_jsonl(tmp_path / "a.jsonl", texts), held_out=0.3)
    held_out = {texts[number] for number in documents.held_out}
    assert held_out and held_out.isdisjoint(texts[number] for number in documents.train)


def test_splits_that_leave_nothing_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("one document")
    assert "none of the 1 documents" in refusal(tmp_path / "a.txt", held_out=1e-9)
    assert "all 1 documents" in refusal(tmp_path / "a.txt", held_out=1 - 1e-9)


def test_what_is_not_there_is_refused(tmp_path):
    assert refusal(tmp_path / "nowhere") == f"data.path {tmp_path / 'nowhere'} does not exist"
    assert "matches data.files '*.py'" in refusal(tmp_path, files="*.py")


def test_files_that_are_no_text_are_named(tmp_path):
    (tmp_path / "a.txt").write_text("fine")
    (tmp_path / "b.png").write_bytes(b"\x89PNG")
    assert f"{tmp_path / 'b.png'} is not UTF-8 (byte 0 is 0x89)" in refusal(tmp_path)
    (tmp_path / "b.png").write_bytes(b"")
    assert f"{tmp_path / 'b.png'} is empty" in refusal(tmp_path)


LINES = [
    (b'{"text": 1', "is not JSON"),
    (b'{"body": "x", "id": 1}', "has no field 'text' (it has: body, id); set data.field"),
    (b'["x"]', "has no field 'text' (it has: list)"),
    (b'{"text": 3}', "field 'text' is 3; it must be a string"),
    (b'{"text": "\xff"}', "is not UTF-8 (byte 10 is 0xff)"),
    (b'{"text": "\\ud800"}', "half of a surrogate pair"),
]


@pytest.mark.parametrize(("line", "said"), LINES, ids=[said[:12] for _, said in LINES])
def test_bad_lines_are_named(tmp_path, line, said):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "fine"}\n\n' + line + b"\n")
    assert refusal(path).startswith(f"{path}:3")
    assert said in refusal(path)


def test_another_field_can_be_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": "x"}\n')
    assert load(tmp_path / "a.jsonl", field="body")[0] == "x"
    (tmp_path / "a.jsonl").write_text("\n\n")
    assert "has blank lines only" in refusal(tmp_path / "a.jsonl")


def test_damaged_records_are_named(tmp_path, texts):
    whole = write_records(tmp_path / "a.array_record", texts).read_bytes()
    cut = tmp_path / "cut.array_record"
    for kept in (len(whole) // 2, 100):
        cut.write_bytes(whole[:kept])
        assert refusal(cut).startswith(f"{cut} is not a whole ArrayRecord file")
    cut.write_bytes(b"")
    assert "is empty" in refusal(cut)
    odd = write_records(tmp_path / "odd.array_record", ["fine", b"\xff\xfe"])
    assert refusal(odd).startswith(f"{odd}: record 1 is not UTF-8")
