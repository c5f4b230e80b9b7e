"""Joining processes: alone, wrongly, and two at once."""

import socket
import subprocess
import sys

import jax
import pytest

from loomax.runtime.distributed import initialize_distributed


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("COORDINATOR", "PROCESSES", "PROCESS"):
        monkeypatch.delenv(f"LOOMAX_{name}", raising=False)
    monkeypatch.delenv("TPU_WORKER_HOSTNAMES", raising=False)


def test_one_process_is_left_alone():
    initialize_distributed()
    initialize_distributed("localhost:1", processes=1, process=0)
    assert jax.process_count() == 1


def test_half_a_description_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="give all three"):
        initialize_distributed("localhost:1", processes=2)
    with pytest.raises(ValueError, match="process 2 of 2"):
        initialize_distributed("localhost:1", processes=2, process=2)
    monkeypatch.setenv("LOOMAX_PROCESSES", "two")
    with pytest.raises(ValueError, match=r"\$LOOMAX_PROCESSES is 'two'"):
        initialize_distributed()


CODE = """
import sys
import jax, jax.numpy as jnp
jax.config.update("jax_num_cpu_devices", 2)
from loomax.runtime.distributed import initialize_distributed
initialize_distributed()
from loomax.runtime.checkpoint import Checkpointer
from loomax.runtime.mesh import MeshConfig, batch_sharding, make_mesh
where = batch_sharding(make_mesh(MeshConfig(replica=2)))
x = jax.jit(lambda: jnp.arange(8.0), out_shardings=where)()
saver = Checkpointer(sys.argv[1])
saver.save(1, {"x": x}, {"n": 1})
step, state, meta = saver.restore({"x": jax.ShapeDtypeStruct((8,), "float32", sharding=where)})
same = jax.jit(lambda a, b: (a == b).all() & (a.sum() == 28))(x, state["x"])
print("ok" if same and (step, meta) == (1, {"n": 1}) else "differs", jax.device_count())
"""


@pytest.mark.multiprocess
def test_two_processes_share_a_mesh_and_a_checkpoint(tmp_path, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("LOOMAX_COORDINATOR", f"localhost:{port}")
    monkeypatch.setenv("LOOMAX_PROCESSES", "2")
    running = []
    for process in range(2):
        monkeypatch.setenv("LOOMAX_PROCESS", str(process))
        command = [sys.executable, "-c", CODE, str(tmp_path)]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate(timeout=240)[0].splitlines() for process in running]
    assert [lines[-1] for lines in outputs] == ["ok 4", "ok 4"]
