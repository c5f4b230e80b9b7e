"""From a plan to what runs it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
from jax.sharding import Mesh, NamedSharding

from loomax.agents.workflow.execute.layout import Layout, mesh_of
from loomax.agents.workflow.execute.nodes import (
    ChunksNode,
    InOrder,
    LoopNode,
    Node,
    RingNode,
    RunNode,
    SwapNode,
)
from loomax.agents.workflow.execute.order import (
    Order,
    reads_of_body,
    reads_of_run,
    residents_of,
    steps_of,
)
from loomax.agents.workflow.execute.program import HostCall, Program, call_program
from loomax.agents.workflow.execute.record import (
    CallStep,
    LoopStep,
    Step,
    Var,
    calls_of,
    variables,
)
from loomax.agents.workflow.execute.watch import Timed, Watch, Watched, pieces_of
from loomax.agents.workflow.plan.ring import Ring
from loomax.agents.workflow.plan.tree import Chunks, Plan, Run, Shared, Space, cost, runs
from loomax.agents.workflow.tasks import placements


@dataclass
class Builder:
    """Builds nodes in order of dispatch.

    Args:
        owned: variables that no one outside needs after they were read last.
        watch: of the seconds that programs take.
        parts: microbatches of an iteration where the building has come to.
        position: of the next run.
        programs, host_calls: those that were built.
    """

    units: dict[str, Step]
    order: Order
    layout: Layout
    devices: Sequence[jax.Device]
    owned: frozenset[Var]
    watch: Watch | None = None
    parts: int = 1
    position: int = 0
    programs: list[Program] = field(default_factory=list)
    host_calls: list[HostCall] = field(default_factory=list)

    def build(self, plan: Plan, first: int = 0) -> Node:
        """The node of a plan on the devices from `first` on."""
        if isinstance(plan, Run):
            return self._run(plan, first)
        if isinstance(plan, Chunks):
            return self._chunks(plan, first)
        if isinstance(plan, Shared) and plan.swap:
            return self._swap(plan, first)
        beside = cost(plan.first).devices if isinstance(plan, Space) else 0
        return InOrder(self.build(plan.first, first), self.build(plan.second, first + beside))

    def _run(self, plan: Run, first: int) -> Node:
        steps, index = steps_of(plan, self.units), self.position
        self.position += 1
        reads = reads_of_run(steps)
        made = [var for step in steps for var in step.outs]
        writes = self.order.wanted(made, index)
        done = self.order.dead(reads, index)
        # A microbatch is its run's own; what is not cut, later microbatches need too.
        done = tuple(v for v in done if self.parts == 1 or v in self.layout.axes)
        free = frozenset(done) if self.parts > 1 else frozenset(done) & self.owned
        work = self._work(plan, steps, reads, writes, first, free)
        return RunNode(work, (*done, *(var for var in made if var not in writes)))

    def _work(
        self,
        plan: Run,
        steps: tuple[Step, ...],
        reads: tuple[Var, ...],
        writes: tuple[Var, ...],
        first: int,
        free: frozenset[Var],
    ) -> Node:
        (step, *more) = steps
        if plan.ring is not None and isinstance(step, LoopStep):
            return self._ring(plan.ring, step, first)
        mesh = self._mesh(first, plan.devices)
        if all(call.stage.fusable for call in calls_of(steps)):
            options = {"parts": self.parts, "donate": free}
            program = Program(steps, reads, writes, self.layout, mesh, **options)
            self.programs.append(program)
            return self._watched(program, steps, reads, writes, plan.devices)
        if more:
            raise ValueError(
                f"the plan fuses {', '.join(plan.units)}, of which some are not fusable: run those "
                "apart"
            )
        where = mesh, plan.devices, self.parts
        programs = {call: self._call(call, *where) for call in calls_of(steps)}
        return programs[step] if isinstance(step, CallStep) else LoopNode(step, programs)

    def _call(self, call: CallStep, mesh: Mesh, devices: int, parts: int) -> Node:
        program = call_program(call, self.layout, mesh, parts)
        if isinstance(program, Program):
            self.programs.append(program)
        else:
            self.host_calls.append(program)
        reads = variables(call.args)
        return self._watched(program, (call,), reads, call.outs, devices, parts)

    def _watched(
        self,
        work: Node,
        steps: tuple[Step, ...],
        reads: Sequence[Var],
        writes: Sequence[Var],
        devices: int,
        parts: int | None = None,
    ) -> Node:
        if self.watch is None:
            return work
        batch = self.layout.batch // (parts or self.parts)
        what = Watched(pieces_of(steps), batch, devices)
        return Timed(work, self.watch, what, tuple(reads), tuple(writes))

    def _ring(self, ring: Ring, step: LoopStep, first: int) -> Node:
        meshes = self._stations(ring, step, first)
        devices = {station.stage: station.devices for station in ring.stations}
        parts = self.parts * ring.turns
        programs = {
            call: self._call(call, meshes[call.name], devices[call.name], parts)
            for call in calls_of((step,))
        }
        return RingNode(step, programs, self.layout, ring.turns, reads_of_body(step))

    def _stations(self, ring: Ring, step: LoopStep, first: int) -> dict[str, Mesh]:
        """Of each stage; one outside of JAX may have no devices, and gives to the next that has."""
        meshes: dict[str, Mesh] = {}
        for station in ring.stations:
            if station.devices:
                meshes[station.stage] = self._mesh(first, station.devices)
            first += station.devices
        names = [station.stage for station in ring.stations]
        for call in calls_of((step,)):
            if call.name not in meshes and (call.stage.fusable or not meshes):
                raise ValueError(f"the plan has no device for {call.name!r}, which is JAX")
        for index, name in enumerate(names):
            after = [*names[index:], *names[:index]]
            meshes.setdefault(name, next(meshes[other] for other in after if other in meshes))
        return meshes

    def _chunks(self, plan: Chunks, first: int) -> Node:
        outer = self.parts
        self.parts *= plan.count
        child = self.build(plan.child, first)
        self.parts, end = outer, self.position - 1
        steps = [step for run in runs(plan.child) for step in steps_of(run, self.units)]
        reads, axes = reads_of_run(tuple(steps)), self.layout.axes
        merged = self.order.wanted([var for step in steps for var in step.outs], end)
        if not axes.keys() >= set(merged):
            names = ", ".join(call.name for call in calls_of(tuple(steps)))
            raise ValueError(f"the plan cuts {names} into microbatches: give all a batch_axis")
        dead = self.order.dead(reads, end)
        # Those of an outer microbatch that are whole belong to all of them.
        dead = tuple(var for var in dead if outer == 1 or var in axes)
        cuts = {var: axes[var] for var in reads if var in axes}
        return ChunksNode(child, plan.count, cuts, {var: axes[var] for var in merged}, dead)

    def _swap(self, plan: Shared, first: int) -> Node:
        residents = []
        for side in (plan.first, plan.second):
            places: dict[Var, NamedSharding] = {}
            for run, where in placements(side, first):
                mesh = self._mesh(where.start, run.devices)
                for var in residents_of(steps_of(run, self.units)):
                    places.setdefault(var, self.layout.sharding(var, mesh, self.parts))
            residents.append(places)
        first_node, second_node = self.build(plan.first, first), self.build(plan.second, first)
        return SwapNode(first_node, second_node, residents[0], residents[1], self.owned)

    def _mesh(self, first: int, count: int) -> Mesh:
        return mesh_of(self.devices[first : first + count])
