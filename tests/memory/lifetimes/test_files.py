"""CSV and JSON: what is written is read again, and errors name the line."""

import pytest

from loomax.memory.lifetimes.csv_file import parse_csv, read_csv, write_csv
from loomax.memory.lifetimes.json_file import from_json, read_json, to_json, write_json
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace

RECORDS = (
    Lifetime("a,b", 3, 0, 7, 4, "temporary", "f0 -> b0", "pair"),
    Lifetime('say "c"', 0, 7, 9),
)


def test_csv_is_read_as_written(tmp_path):
    write_csv(Trace(RECORDS), tmp_path / "t.csv")
    trace = read_csv(tmp_path / "t.csv")
    assert trace.records == RECORDS and trace.lines == (2, 3)


def test_plain_records_are_written_in_the_public_format(tmp_path):
    write_csv(Trace((Lifetime("0", 4, 1, 3),)), tmp_path / "t.csv", {"0": 8})
    assert (tmp_path / "t.csv").read_text() == "id,lower,upper,size,offset\n0,1,3,4,8\n"
    assert read_csv(tmp_path / "t.csv").records == (Lifetime("0", 4, 1, 3),)


def test_columns_may_stand_in_any_order_with_blanks_and_empty_lines():
    trace = parse_csv("size, id ,upper,lower\r\n\r\n 4,x,9,2\r\n", "f")
    assert trace.records == (Lifetime("x", 4, 2, 9),) and trace.lines == (3,)


@pytest.mark.parametrize("header", ["buffer,begin,upper,size", "buffer_id,start,upper,size"])
def test_older_names_of_the_public_format(header):
    assert parse_csv(f"{header}\nx,2,9,4\n", "f").records == (Lifetime("x", 4, 2, 9),)


def test_an_end_is_the_last_time_that_counts():
    """`end` 9 is `upper` 10, and ends of gaps are meant likewise."""
    trace = parse_csv("id,start,end,size,gaps\nx,2,9,4,8-8 3-4\n", "f")
    assert trace.records == (Lifetime("x", 4, 2, 10, gaps=((3, 5), (8, 9))),)
    assert parse_csv("buffer,begin,end,size\nx,2,9,4\n", "f").records[0].death == 10


def test_gaps_are_read_and_written(tmp_path):
    text = "id,lower,upper,size,gaps\nx,0,9,4,2-3 5-9\ny,2,3,4,\n"
    trace = parse_csv(text, "f")
    assert trace.records[0].gaps == ((2, 3), (5, 9)) and trace.records[0].spans == [(0, 2), (3, 5)]
    write_csv(trace, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == text
    write_json(trace, tmp_path / "t.json")
    assert read_json(tmp_path / "t.json").records == trace.records
    # A part of the buffer is held in its gap: all of it counts.
    (held,) = parse_csv("id,lower,upper,size,gaps\nx,0,9,4,2-3@0:2\n", "f").records
    assert held.gaps == ()


def test_what_is_read_is_told_now_and_then(monkeypatch):
    monkeypatch.setattr("loomax.memory.lifetimes.csv_file.TELL_EVERY", 2)
    told = []
    rows = "".join(f"{i},0,1,2\n" for i in range(5))
    parse_csv("id,lower,upper,size\n" + rows, "f", told.append)
    assert told == [2, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f: empty"),
        ("id,lower,upper\n", "f:1: no column 'size'"),
        ("id,lower,upper,size,sise\n", "f:1: unknown column 'sise': did you mean size"),
        ("id,lower,upper,size,gasp\n", "f:1: unknown column 'gasp': did you mean gaps"),
        ("id,begin,start,upper,size\n", "f:1: column 'lower' stands there twice"),
        ("id,lower,upper,size,gaps\na,0,9,2,3\n", "f:2: buffer 'a': gap '3': write from-to"),
        ("id,lower,upper,size,gaps\na,0,9,2,3-4@5\n", "gap '3-4@5': write from-to"),
        ("id,lower,upper,size,gaps\na,0,9,2,3-x\n", "gap '3-x': one of its numbers is 'x'"),
        ("id,lower,upper,size,gaps\na,0,9,2,3-10\n", "f:2: .*gap 3-10: gaps must come one after"),
        ("id,lower,upper,size,gaps\na,0,9,2,3-5 4-6\n", "f:2: .*gap 4-6"),
        ("id,lower,upper,size,gaps\na,0,9,2,3-3\n", "f:2: .*gap 3-3"),
        ("id,lower,upper,size,size\n", "f:1: column 'size' stands there twice"),
        ("id,lower,upper,size\na,0,1\n", "f:2: 3 cells, and 4 columns"),
        ("id,lower,upper,size\na,0,1,2.5\n", "f:2: buffer 'a': size is '2.5': give a whole"),
        ("id,lower,upper,size\na,0,99999999999999999999,2\n", "time 9.*within 2"),
        ("id,lower,upper,size\na,0,1,2\n\nb,5,4,2\n", "f:4: buffer 'b': freed at 4"),
        ("id,lower,upper,size\na,0,1,2\na,1,2,2\n", "f:3: buffer 'a': .*taken by f:2"),
        ("id,lower,upper,size\na,0,1,-2\n", "f:2: buffer 'a': size is -2"),
    ],
)
def test_csv_errors_name_the_line(text, message):
    with pytest.raises(ValueError, match=message):
        parse_csv(text, "f")


def test_json_is_read_as_written(tmp_path):
    write_json(Trace(RECORDS), tmp_path / "t.json")
    assert read_json(tmp_path / "t.json").records == RECORDS
    assert "alignment" not in to_json(Trace(RECORDS[1:]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "t:1: not JSON"),
        ("[]", 't: no list "records"'),
        ('{"records": [3]}', "t: record 1: 3 is not an object"),
        ('{"records": [{"id": "a", "size": 1, "birth": 0}]}', "record 1: no 'death'"),
        ('{"records": [{"id": "a", "size": "1", "birth": 0, "death": 1}]}', "size is '1'.*int"),
        ('{"records": [{"id": "a", "size": true, "birth": 0, "death": 1}]}', "size is True"),
        ('{"records": [{"id": "a", "siz": 1, "birth": 0, "death": 1}]}', "did you mean size"),
        ('{"records": [{"id": "a", "size": 1, "birth": 1, "death": 1}]}', "'a' .*freed at 1"),
        (
            '{"records": [{"id": "a", "size": 1, "birth": 9223372036854775808, "death": 1e19}]}',
            "death is 1e.19: it must be of type int",
        ),
        (
            '{"records": [{"id": "a", "size": 1, "birth": 9223372036854775808, '
            '"death": 9223372036854775809}]}',
            "'a' .*time 9223372036854775809: it must lie within 2..62 of 0",
        ),
        ('{"records": [{"id": "a", "size": 1, "birth": 0, "death": 9, "gaps": [3]}]}', "gaps are"),
    ],
)
def test_json_errors_name_the_record(text, message):
    with pytest.raises(ValueError, match=message):
        from_json(text, "t")


@pytest.mark.parametrize("read", [read_csv, read_json])
def test_unreadable_files_are_refused(read, tmp_path):
    with pytest.raises(ValueError, match="cannot read .*none"):
        read(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(ValueError, match="not UTF-8"):
        read(tmp_path / "binary")
