"""The packing benchmark: its instances, its peer and the names of its rows."""

import sys

from benchmarks import memory


def test_sliced_instances_are_perfect_packings():
    instance = memory.sliced("s", 40, seed=1, side=64)
    records = instance.trace.records
    assert len(records) == 40 and instance.trace.lower_bound == 64
    assert sum(r.size * (r.death - r.birth) for r in records) == 64 * 64


def test_rows_have_the_promised_names(tmp_path, monkeypatch):
    (tmp_path / "X.12.csv").write_text("id,lower,upper,size\na,0,3,4\nb,3,9,4\nc,0,9,4\n")
    monkeypatch.setenv("LOOMAX_PACKING", str(tmp_path))
    monkeypatch.delenv("LOOMAX_MINIMALLOC", raising=False)
    found = {f"{row.bench}/{row.case}/{row.metric}": row for row in memory.rows(all_of(), 1)}
    assert list(found) == [
        "memory/packing-X/peak_over_capacity",
        "memory/packing-X/peak_over_lower_bound",
        "memory/packing-all/seconds",
    ]
    assert found["memory/packing-X/peak_over_capacity"].value == 8 / 12
    assert found["memory/packing-X/peak_over_lower_bound"].value == 1
    assert found["memory/packing-all/seconds"].baseline is None


def test_the_peer_takes_turns(tmp_path, monkeypatch):
    peer = tmp_path / "peer"
    peer.write_text(f"#!{sys.executable}\nimport sys\nassert '--capacity=16' in sys.argv\n")
    peer.chmod(0o755)
    monkeypatch.setenv("LOOMAX_MINIMALLOC", str(peer))
    rows = memory.rows([memory.sliced("s", 6, seed=0, side=16)], 1)
    (row,) = [row for row in rows if row.baseline == "minimalloc"]
    assert row.case == "packing-all" and row.metric == "seconds" and row.ratio > 0


def all_of() -> list[memory.Instance]:
    return memory.instances(quick=False)
