"""XLA's own decisions: against its memory analysis, by sweep, and cut or damaged dumps."""

import secrets
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from loomax.memory.lifetimes.xla import (
    NOT_CACHED,
    compile_traced,
    dumps_in,
    parse_program,
    read_dump,
)
from loomax.memory.lifetimes.xla_proto import decode_assignment
from loomax.memory.lifetimes.xla_wire import Message
from loomax.memory.planner.pack import pack
from loomax.memory.planner.plan import check_plan
from loomax.runtime.gpu_aot import gpu_mesh

DIM, BATCH, LAYERS = 32, 16, 4


def step(weights, x):
    """One step of descent on a chain of layers; gives the loss and new weights."""

    def loss(weights):
        y = x
        for weight in weights:
            y = jnp.tanh(y @ weight)
        return (y**2).sum()

    value, slopes = jax.value_and_grad(loss)(weights)
    return value, [weight - 0.1 * slope for weight, slope in zip(weights, slopes, strict=True)]


def loop(x, weights):
    """The same layers as a loop, which reuses bytes in place."""

    def body(x, weight):
        return jnp.tanh(x @ weight), x.sum()

    return jax.lax.scan(body, x, weights)


def lowered(name):
    x = jax.ShapeDtypeStruct((BATCH, DIM), jnp.float32)
    weight = jax.ShapeDtypeStruct((DIM, DIM), jnp.float32)
    if name == "loop":
        stacked = jax.ShapeDtypeStruct((LAYERS, DIM, DIM), jnp.float32)
        return jax.jit(loop).lower(x, stacked)
    return jax.jit(step, donate_argnums=0).lower([weight] * LAYERS, x)


@pytest.fixture(scope="module")
def dumped(tmp_path_factory):
    """A folder with dumps of both programs."""
    folder = tmp_path_factory.mktemp("dump")
    for name in ("step", "loop"):
        options = {"xla_dump_to": str(folder), "xla_dump_hlo_as_proto": True}
        # JAX may hold the program in its cache, from which it comes without buffers.
        fresh = {NOT_CACHED: 15 + secrets.randbelow(2**30)}
        lowered(name).compile(compiler_options=options | fresh)
    return folder


@pytest.fixture(scope="module")
def traced():
    return {name: compile_traced(lowered(name)) for name in ("step", "loop")}


@pytest.mark.parametrize("name", ["step", "loop"])
def test_bytes_are_those_of_the_memory_analysis(traced, name):
    compiled, program = traced[name]
    stats = compiled.memory_analysis()
    sums = dict.fromkeys(("parameter", "donated", "output", "constant", "temporary"), 0)
    for record in program.residents.records:
        sums[record.kind] += record.size
    assert program.heap_bytes + sums["temporary"] == stats.temp_size_in_bytes
    assert sums["parameter"] + sums["donated"] == stats.argument_size_in_bytes
    assert sums["donated"] == stats.alias_size_in_bytes
    assert sums["donated"] + sums["output"] == stats.output_size_in_bytes
    held = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    assert program.peak == held + stats.temp_size_in_bytes + sums["constant"]


@pytest.mark.parametrize("name", ["step", "loop"])
def test_live_buffers_never_overlap_at_xlas_offsets(traced, name):
    _, program = traced[name]
    check_plan(program.heap, program.offsets, program.heap_bytes)
    ends = [program.offsets[record.id] + record.size for record in program.heap.records]
    assert max(ends) == program.heap_bytes
    assert program.left_out == ()


@pytest.mark.parametrize("name", ["step", "loop"])
def test_a_plan_lies_between_the_lower_bound_and_xlas_heap(traced, name):
    _, program = traced[name]
    plan = pack(program.heap)
    check_plan(program.heap, plan.offsets, plan.peak)
    assert program.heap.lower_bound <= plan.peak <= program.heap_peak
    assert program.ratio == program.heap_peak / program.heap.lower_bound >= 1


@pytest.mark.parametrize("name", ["step", "loop"])
def test_offsets_are_those_that_the_compiled_program_tells(traced, name):
    compiled, program = traced[name]
    told = Message(compiled.memory_analysis().serialized_buffer_assignment_proto, "told")
    assignment = decode_assignment(told)
    assert assignment.traces == ()  # which is why lifetimes take a dump
    (heap,) = [
        block
        for block in assignment.allocations
        if block.size == program.heap_bytes and not (block.parameter or block.output)
    ]
    places = {(slot.offset, slot.size) for slot in heap.slots}
    records = program.heap.records
    assert {(program.offsets[record.id], record.size) for record in records} == places


def test_buffers_are_known_by_operation_and_line(traced):
    _, program = traced["step"]
    kept = [
        record
        for record in program.heap.records
        if program.origins[record.id].op_name.endswith("/tanh")
        and record.size == 4 * BATCH * DIM
        and "transpose" not in program.origins[record.id].op_name
    ]
    # The backward pass needs what all layers but the last give; the last lies in an output.
    assert len(kept) == LAYERS - 1
    source = [line.strip() for line in Path(__file__).read_text().splitlines()]
    for record in kept:
        file, line = program.origins[record.id].line.rsplit(":", 1)
        assert file.endswith("test_xla.py")
        assert source[int(line) - 1] == "y = jnp.tanh(y @ weight)"
    # They are stacked: first made, last used.
    births = sorted(kept, key=lambda record: record.birth)
    assert births == sorted(kept, key=lambda record: -record.death)
    assert [program.origins[record.id].op_name for record in program.residents.records][:2] == [
        "weights[0]",
        "weights[1]",
    ]


def test_the_whole_trace_holds_every_buffer(traced):
    _, program = traced["loop"]
    assert program.trace.records == program.heap.records + program.residents.records
    assert set(program.origins) == {record.id for record in program.trace.records}
    assert program.module == "jit_loop"


def test_a_program_without_temporaries_has_an_empty_heap():
    args = jax.ShapeDtypeStruct((8,), jnp.float32)
    _, program = compile_traced(jax.jit(lambda x: x + 1).lower(args))
    assert (program.heap.records, program.heap_bytes, program.ratio) == ((), 0, 1.0)
    kinds = sorted(record.kind for record in program.residents.records)
    assert kinds in (["output", "parameter"], ["constant", "output", "parameter"])


def test_a_program_from_the_compilation_cache_is_compiled_again():
    def cached_and_traced(x):
        return x @ x @ x

    name = "jax_persistent_cache_min_compile_time_secs"
    before = jax.config.values[name]
    jax.config.update(name, 0)
    try:
        args = jax.ShapeDtypeStruct((9, 9), jnp.float32)
        found = [compile_traced(jax.jit(cached_and_traced).lower(args))[1] for _ in range(2)]
    finally:
        jax.config.update(name, before)
        folder = jax.config.values["jax_compilation_cache_dir"]
        for path in Path(folder).glob("jit_cached_and_traced-*") if folder else ():
            path.unlink(missing_ok=True)
    assert found[0].heap.records == found[1].heap.records
    assert found[0].heap_bytes >= 9 * 9 * 4


def test_compiler_options_reach_the_compiler():
    with pytest.raises(Exception, match="no_such_option"):
        compile_traced(lowered("step"), {"no_such_option": True})


def test_a_folder_gives_what_compiling_gives(dumped, traced):
    assert len(dumps_in(dumped)) == 2
    program = read_dump(dumped, "jit_step")
    assert program.heap.records == traced["step"][1].heap.records
    assert program.offsets == traced["step"][1].offsets


def test_a_folder_is_asked_for_one_program(dumped, tmp_path):
    with pytest.raises(ValueError, match="2 programs: name one of jit_loop, jit_step"):
        read_dump(dumped)
    with pytest.raises(ValueError, match="unknown program 'jit_stepp': did you mean jit_step"):
        read_dump(dumped, "jit_stepp")
    with pytest.raises(ValueError, match="no such file or folder: dump with XLA_FLAGS"):
        read_dump(tmp_path / "none")
    with pytest.raises(ValueError, match=r"no \*after_optimizations.hlo.pb: dump with"):
        read_dump(tmp_path)
    (file,) = [file for file in dumps_in(dumped) if "jit_step" in file.name]
    for number in (1, 2):
        shutil.copy(file, tmp_path / f"module_{number}.jit_step.cpu_after_optimizations.hlo.pb")
    with pytest.raises(ValueError, match="2 programs are called 'jit_step': read one of module_1"):
        read_dump(tmp_path, "jit_step")


def test_before_optimizations_there_are_no_buffers(dumped):
    (file,) = dumped.glob("*jit_step.before_optimizations.hlo.pb")
    with pytest.raises(ValueError, match=f"{file.name}: no buffer assignment"):
        read_dump(file)


def test_cut_files_are_refused_by_name(dumped, tmp_path):
    data = dumps_in(dumped)[0].read_bytes()
    path = tmp_path / "cut.hlo.pb"
    for end in (0, 1, 2, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(ValueError, match="cut.hlo.pb: .*cut off"):
            read_dump(path)


def test_flipped_bytes_give_an_error_with_the_name_or_a_valid_trace(dumped):
    (file,) = [file for file in dumps_in(dumped) if "jit_step" in file.name]
    data = file.read_bytes()
    state, refused = 1, 0
    # The buffer assignment is at the end.
    for _ in range(50):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        at = len(data) - 1 - (state >> 33) % 1800
        flipped = bytearray(data)
        flipped[at] ^= 1 << (state >> 30) % 8
        try:
            program = parse_program(bytes(flipped), "flipped.pb")
        except ValueError as error:
            assert "flipped.pb" in str(error)
            refused += 1
        else:
            check_plan(program.heap, program.offsets, program.heap_bytes)
    assert refused > 5


def test_a_gpu_program_is_read_like_others():
    extra = "needs the GPU compiler: pip install 'loomax[gpu-aot]'"
    pytest.importorskip("jax_plugins.xla_cuda13", reason=extra)
    where = jax.NamedSharding(gpu_mesh("h100"), jax.P())
    x = jax.ShapeDtypeStruct((BATCH, DIM), jnp.float32, sharding=where)
    weight = jax.ShapeDtypeStruct((DIM, DIM), jnp.float32, sharding=where)
    compiled, program = compile_traced(jax.jit(step, donate_argnums=0).lower([weight] * LAYERS, x))
    stats = compiled.memory_analysis()
    assert program.heap_bytes == stats.temp_size_in_bytes > 0
    assert program.left_out == ()
    check_plan(program.heap, program.offsets, program.heap_bytes)
    assert stats.peak_memory_in_bytes <= program.peak
