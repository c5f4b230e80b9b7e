"""Metrics: what is written, and what stays after a resume."""

import json

import pytest
from tensorboardX.proto.event_pb2 import Event

from loomax.runtime.metrics import MetricsWriter, check_finite, read


def scalars(run_dir) -> list[tuple[int, str, float]]:
    """All TensorBoard scalars of a run, read from the record format itself."""
    found = []
    for path in sorted((run_dir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            # A record: length u64, checksum u32, payload, checksum u32.
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    return found


def test_writes_json_lines_and_tensorboard(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        writer.write(1, {"loss": 0.5}, prefix="train/")
        writer.write(2, {"loss": float("nan"), "reward": 3})
    rows = read(tmp_path)
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[0]["train/loss"] == 0.5 and rows[0]["time"] > 0
    assert rows[1]["loss"] is None and rows[1]["reward"] == 3.0
    assert scalars(tmp_path)[:1] == [(1, "train/loss", 0.5)]


def test_resume_drops_what_was_lost(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        for step in range(1, 6):
            writer.write(step, {"x": step})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "x"')
    with MetricsWriter(tmp_path, resume_step=3) as writer:
        writer.write(4, {"x": 40})
    assert [(row["step"], row["x"]) for row in read(tmp_path)] == [(1, 1), (2, 2), (3, 3), (4, 40)]


def test_resume_keeps_metrics_that_count_other_steps(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        writer.write(100, {"loss": 1.0}, prefix="sft/")
        for step in (2, 4):
            writer.write(step, {"loss": 1.0}, prefix="rl/")
    with MetricsWriter(tmp_path, resume_step=2, counted=("rl/",)) as writer:
        writer.write(3, {"loss": 2.0}, prefix="rl/")
    assert [row["step"] for row in read(tmp_path)] == [100, 2, 3]
    # The curves have the same rows, those of other stages included, and none twice.
    assert [step for step, _, _ in scalars(tmp_path)] == [100, 2, 3]


def test_a_stage_that_begins_again_cuts_its_own_rows(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        for step in (10, 20):
            writer.write(step, {"loss": 1.0}, prefix="ground/")
        writer.write(10, {"loss": 1.0}, prefix="sft/")
    with MetricsWriter(tmp_path, 0, counted=("rl/",)) as writer:
        writer.cut("sft/")
        writer.write(10, {"loss": 2.0}, prefix="sft/")
        writer.write(20, {"loss": 3.0}, prefix="sft/")
        writer.cut("sft/", step=10)
        writer.write(20, {"loss": 4.0}, prefix="sft/")
    rows = read(tmp_path)
    assert [row["step"] for row in rows] == [10, 20, 10, 20]
    assert [row.get("sft/loss") for row in rows] == [None, None, 2.0, 4.0]
    assert [value for _, _, value in scalars(tmp_path)] == [1.0, 1.0, 2.0, 4.0]


def test_nothing_is_touched_before_the_first_line(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        writer.write(1, {"x": 1})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for step in (None, 0):
        with MetricsWriter(tmp_path, step) as writer:
            writer.cut("x")
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before
    assert not (tmp_path / "new").exists() and MetricsWriter(tmp_path / "new").close() is None
    assert not (tmp_path / "new").exists()


def test_resume_drops_what_is_written_once_more(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        writer.write(2, {"loss": 1.0}, prefix="train/")
        writer.write(2, {"mark": 1.0}, prefix="heldout/")
    with MetricsWriter(tmp_path, resume_step=2, again=("heldout/",)) as writer:
        writer.write(2, {"mark": 2.0}, prefix="heldout/")
    assert [set(row) & {"heldout/mark", "train/loss"} for row in read(tmp_path)] == [
        {"train/loss"},
        {"heldout/mark"},
    ]
    assert read(tmp_path)[1]["heldout/mark"] == 2.0


def test_a_fresh_run_starts_a_new_file(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        writer.write(1, {"x": 1})
    with MetricsWriter(tmp_path) as writer:
        writer.write(1, {"x": 2})
    assert [row["x"] for row in read(tmp_path)] == [2]


@pytest.mark.parametrize("junk", ["[1]", "7", '{"x": 1}', '{"step": "2"}', '{"step": 2, "x'])
def test_lines_that_are_no_rows_end_the_record(tmp_path, junk):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "x": 1}\n' + junk + "\n")
    assert read(tmp_path) == [{"step": 1, "x": 1}]


def test_lines_can_be_read_while_the_run_goes_on(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.write(1, {"x": 1})
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["x"] == 1.0
    writer.close()
    writer.close()


def test_disabled_writes_nothing(tmp_path):
    with MetricsWriter(tmp_path / "run", enabled=False) as writer:
        writer.write(1, {"x": 1})
    assert not (tmp_path / "run").exists()


def test_what_is_not_finite_stops_a_run():
    check_finite({"loss": 1.0}, "step 3")
    with pytest.raises(FloatingPointError, match="step 3: loss, value not finite"):
        check_finite({"loss": float("nan"), "value": float("inf"), "kl": 0.0}, "step 3")
