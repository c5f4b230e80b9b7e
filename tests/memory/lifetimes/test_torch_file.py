"""Snapshots of PyTorch: plain pickles are read, and nothing that they could run."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from loomax.memory.lifetimes import plain_pickle
from loomax.memory.lifetimes.plain_pickle import load_plain
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.torch_file import parse_snapshot, read_torch


def event(action, addr=0, size=0, **more):
    frames = [{"filename": "train.py", "line": 3, "name": "step"}]
    return {"action": action, "addr": addr, "size": size, "stream": 0, "frames": frames, **more}


EVENTS = [
    event("segment_alloc", 0x1000, 2 << 20),
    event("alloc", 0x1000, 1000),
    event("alloc", 0x1400, 512),
    event("free_requested", 0x1000, 1000),
    event("free_requested", 0x9000, 700),
    event("free_completed", 0x9000, 700),
    event("free_completed", 0x1000, 1000),
    event("alloc", 0x1000, 600),
    event("oom", 0, 1 << 40, device_free=5),
]
SEGMENTS = [
    {
        "device": 0,
        "address": 0x1000,
        "blocks": [
            {"size": 1024, "state": "active_allocated"},
            {"size": 512, "state": "active_allocated"},
            {"size": 2048, "state": "inactive"},
            {"size": 4096, "state": "active_allocated"},
        ],
    },
    {"device": 1, "address": 0, "blocks": [{"size": 7, "state": "active_allocated"}]},
]
SNAPSHOT = {"segments": SEGMENTS, "device_traces": [EVENTS, []], "allocator_settings": {"a": None}}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_events_become_lifetimes(tmp_path, protocol):
    path = tmp_path / "snapshot.pickle"
    path.write_bytes(pickle.dumps(SNAPSHOT, protocol))
    spans = [
        # There before the first event; until its memory can be used again.
        (700, 0, 6, "before"),
        (1000, 2, 7, ""),
        (512, 3, 10, "open"),
        (600, 8, 10, "open"),
        # Allocated, and no event names it: 0x1000 + 1024 + 512 + 2048.
        (4096, 0, 10, "resident"),
    ]
    wanted = [Lifetime(str(i), s, b, d, 512, kind) for i, (s, b, d, kind) in enumerate(spans)]
    assert list(read_torch(path).records) == wanted


def test_without_completed_frees_requests_count():
    events = [event("alloc", 1, 5), event("free_requested", 1, 5)]
    (record,) = parse_snapshot({"device_traces": [events]}, "s").records
    assert (record.birth, record.death) == (1, 2)


@pytest.mark.parametrize(
    ("snapshot", "device", "message"),
    [
        ([], None, "s: not a memory snapshot: it has no lists 'device_traces'"),
        ({"device_traces": [3]}, None, "s: not a memory snapshot"),
        ({"device_traces": [[], []]}, None, "s: no device has events: they are recorded after"),
        ({"device_traces": [[1], [2]]}, None, "s: devices 0, 1 have events: choose one"),
        ({"device_traces": [[1], []]}, 1, "s: device 1 has events"),
        ({"device_traces": [[1]]}, 2, "s: device 2 has events"),
        ({"device_traces": [[1]]}, 0, "s: event 1: it has no 'action'"),
        ({"device_traces": [[event("alloc", "x", 1)]]}, None, "s: event 1: addr is 'x'"),
        ({"device_traces": [[event("alloc", 1, -1)]]}, None, "s: event 1: size is '-1'"),
        ({"device_traces": [[event("alloc", 1, True)]]}, None, "s: event 1: size is 'True'"),
        ({"device_traces": [[event("alloc", 1, 1)] * 2]}, None, "0x1 is in use since event 1"),
    ],
)
def test_broken_snapshots_are_named(snapshot, device, message):
    with pytest.raises(ValueError, match=message):
        parse_snapshot(snapshot, "s", device)


def test_one_of_several_devices():
    traces = [[event("alloc", 1, 5)], [event("alloc", 1, 6)]]
    assert parse_snapshot({"device_traces": traces}, "s", 1).records[0].size == 6


shared = [1]
PLAIN = [
    {"a": (1, 2.5, -3, 2**80), "b": [None, True, False, b"x", "\u20ac", ()], 3: {}},
    [shared, shared, (1, 2, 3, 4, 5), [[[[]]]]],
    list(range(3000)),
    {i: str(i) for i in range(1500)},
    ("x" * 300, b"y" * 300, "z" * 70000, -1, 255, 65536, -(2**31), 2**31),
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", PLAIN, ids=range(len(PLAIN)))
def test_plain_values_are_read_as_pickle_reads_them(value, protocol):
    if protocol < 3 and "b" in repr(value):
        value = [text for text in [value] if not isinstance(text, (dict, tuple))]
    found = load_plain(pickle.dumps(value, protocol))
    assert found == value and repr(found) == repr(value)


class Runs:
    def __reduce__(self):
        return os.system, ("touch ran",)


class Builds:
    def __init__(self):
        self.x = 1


def test_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(ValueError, match=r"byte \d+: opcode (STACK_)?GLOBAL: only plain"):
            load_plain(pickle.dumps({"device_traces": [Runs()]}, protocol))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "value",
    [Builds(), OrderedDict(a=1), {1, 2}, np.ones(3), np.float32(1), 1j, len, bytearray(b"x")],
)
def test_all_but_plain_containers_are_refused(value):
    with pytest.raises(ValueError, match=r"p: byte \d+: opcode \w+: only plain lists"):
        load_plain(pickle.dumps(value), "p")


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n.",
        b"ios\nsystem\n.",
        b"(cos\nsystem\no.",
        b"\x80\x02\x82\x01.",
        b"Pid\n.",
        b"\x80\x05\x97.",
        b"NR.",
        b"Nb.",
        b"S'x'\n.",
    ],
)
def test_opcodes_that_make_other_things_are_refused(data):
    with pytest.raises(ValueError, match="byte .*: opcode .*only plain|damaged"):
        load_plain(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"N",
        b"NN.",
        b"(N.",
        b".",
        b"a.",
        b"Na.",
        b"]s.",
        b"}(Nu.",
        b"}]Ns.",
        b"e.",
        b"\x85.",
        b"h\x07.",
        b"\xff\xff",
        b"\x8c\x09ab.",
        b"\x8b\xff\xff\xff\x7f.",
        pickle.dumps(SNAPSHOT)[:-9],
        b"id,lower,upper,size\n",
    ],
)
def test_damaged_pickles_are_one_line(data):
    with pytest.raises(ValueError, match=r"^p: ") as caught:
        load_plain(data, "p")
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


def test_sizes_and_depths_are_bounded(tmp_path, monkeypatch):
    deep = b"(" * 101 + b"t" * 101 + b"."
    with pytest.raises(ValueError, match="byte 100: containers nest deeper than 100"):
        load_plain(deep)
    assert load_plain(b"(" * 100 + b"t" * 100 + b".") is not None
    monkeypatch.setattr(plain_pickle, "MOST_WAITING", 10)
    with pytest.raises(ValueError, match="byte 10: over 10 values without a container"):
        load_plain(b"N" * 11 + b".")
    monkeypatch.setattr(plain_pickle, "MOST_FILE_BYTES", 3)
    (tmp_path / "s.pickle").write_bytes(b"NN.N")
    with pytest.raises(ValueError, match="over 3 bytes, the most that is read"):
        read_torch(tmp_path / "s.pickle")
    with pytest.raises(ValueError, match="cannot read .*none"):
        read_torch(tmp_path / "none.pickle")
