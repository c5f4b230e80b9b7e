"""The scheduler and its accounts with a made-up device: no model, no JAX, no event loop."""

from dataclasses import replace

import pytest

from loomax.agents.engine.config import EngineConfig, SpeculativeConfig
from loomax.agents.engine.memory import Memory
from loomax.agents.engine.policy import FirstCome, Ordered
from loomax.agents.engine.request import EngineRequest
from loomax.agents.engine.scheduler import Scheduler
from loomax.agents.engine.speculative.guess import Guesser
from loomax.agents.engine.stops import Stops
from loomax.agents.engine.work import Result
from loomax.agents.search.engine_protocol import Sampling
from loomax.agents.search.speculate.order import OrderConfig, Ticket

# Twelve pages of two tokens.
CONFIG = EngineConfig(
    slots=3, context=24, page=2, pages=12, chunks=(4,), snapshots=6, snapshot_every=4
)


def following(tokens):
    """The token that the made-up model generates behind others."""
    return (31 * sum(tokens) + len(tokens)) % 97


class Bench:
    """A scheduler and what drives it."""

    def __init__(self, config=CONFIG, policy=None, *, recurrent=False):
        self.memory = Memory(config, recurrent=recurrent)
        guesser = Guesser(config.speculative)
        self.scheduler = Scheduler(config, self.memory, policy or FirstCome(), guesser)
        # What the device has: tokens of pages, and the tokens that a state has read.
        self.pages, self.slots = {}, {}
        self.snapshots = {0: ()}
        self.number = 0

    def add(self, tokens, most, kind="main"):
        self.number += 1
        ticket = Ticket(self.number, float(self.number), kind)
        request = EngineRequest(ticket, tokens, Sampling(most), Stops((), (), None))
        self.scheduler.add(request)
        return request

    def fork(self, parent, forced, most, kind="draft"):
        child = self.add((*parent.tokens[: parent.prompt], *forced), most, kind)
        self.memory.inherit(child, parent, parent.prompt)
        if parent.computed < parent.prompt:
            child.awaits = (parent, parent.prompt)
        return child

    def step(self):
        """One step; its calls as [(request number, tokens)], or None if there was none."""
        work = self.scheduler.plan()
        if work is None:
            return None
        self.scheduler.account(work, self.run(work))
        return [[(row.request.ticket.number, row.tokens) for row in c.parts] for c in work.calls]

    def run(self, work):
        """What a device would do."""
        moved = {entry: self.slots.get(slot) for entry, slot in work.saves.items()}
        self.snapshots |= moved
        self.slots |= {slot: self.snapshots[entry] for slot, entry in work.restores.items()}
        copies = {page: dict(self.pages.get(old, {})) for page, old in work.copies.items()}
        self.pages |= copies
        return [[self._row(row) for row in call.parts] for call in work.calls]

    def _row(self, row):
        """Reads the context from pages, and checks that the state has read the same."""
        size = self.memory.config.page
        for index, token in enumerate(row.tokens):
            page, place = divmod(row.start + index, size)
            self.pages.setdefault(row.pages[page], {})[place] = token
        end = row.start + len(row.tokens)
        seen = [self.pages[row.pages[at // size]][at % size] for at in range(end)]
        assert seen == row.request.tokens[:end]
        if self.memory.recurrent:
            assert list(self.slots[row.slot]) == seen[: row.start]
            self.slots[row.slot] = tuple(seen)
        given = (following(seen),) if row.final else ()
        return Result(given, (0.0,) * len(given), len(row.tokens))

    def finish(self):
        while self.step() is not None:
            pass

    def lost(self):
        """Pages and snapshots that are held when nobody is left."""
        for request in list(self.scheduler.held):
            self.scheduler.abort(request)
        self.finish()
        self.memory.radix.clear()
        return self.memory.pages.used, self.memory.snapshots.used - self.memory.recurrent


def output(request):
    return request.tokens[request.prompt :]


def expected(tokens, most):
    tokens = list(tokens)
    for _ in range(most):
        tokens.append(following(tokens))
    return tokens[-most:]


@pytest.mark.parametrize("recurrent", [False, True])
def test_who_came_last_is_preempted_and_goes_on_later(recurrent):
    bench = Bench(recurrent=recurrent)
    # Together they grow to 15 pages.
    requests = [bench.add([n, 2, 3, 4], 6) for n in range(3)]
    bench.finish()
    assert bench.scheduler.preempted > 0
    assert [output(r) for r in requests] == [expected([n, 2, 3, 4], 6) for n in range(3)]
    assert bench.lost() == (0, 0)


def test_drafts_give_way_first_and_say_so():
    bench = Bench(policy=Ordered(OrderConfig(ageing_s=0.0, draft_share=1.0)))
    first, draft = bench.add([1, 2, 3, 4], 12), bench.add([5, 6, 7, 8], 12, "draft")
    last = bench.add([9, 10, 11, 12], 12)
    bench.finish()
    assert draft.ended and not draft.pages and len(output(draft)) < 12
    with pytest.raises(Exception, match="preempted: 12 pages are too few for all that runs"):
        raise draft._error
    assert output(first) == expected([1, 2, 3, 4], 12)
    assert output(last) == expected([9, 10, 11, 12], 12)
    assert bench.lost() == (0, 0)


def test_what_ended_is_given_up_before_what_runs():
    """Its pages are computed again for a fork that comes later."""
    bench = Bench(replace(CONFIG, prefix_cache=False))
    idle = bench.add(range(10), 2)
    bench.finish()
    assert len(idle.pages) == 6
    running = [bench.add([n, 2, 3, 4], 4) for n in range(3)]
    bench.finish()
    assert bench.scheduler.preempted == 0 and idle.pages == []
    child = bench.fork(idle, [3], 2, "main")
    bench.finish()
    assert output(child) == expected([*range(10), 3], 2)
    assert all(output(r) == expected([n, 2, 3, 4], 4) for n, r in enumerate(running))
    assert bench.lost() == (0, 0)


@pytest.mark.parametrize("recurrent", [False, True])
def test_forks_wait_for_the_prompt_and_then_share_it(recurrent):
    bench = Bench(recurrent=recurrent)
    parent = bench.add(range(7), 5)
    one, two = bench.fork(parent, [50], 2), bench.fork(parent, [60, 61], 2)
    # Two chunks of the prompt; then the parent decodes, and the forks read what is forced.
    assert bench.step() == [[(1, (0, 1, 2, 3))]]
    assert bench.step() == [[(1, (4, 5, 6))]]
    calls = bench.step()
    assert calls[0] == [(3, (60, 61))]
    assert sorted(number for number, _ in calls[1]) == [1, 2]
    # Three whole pages are everybody's, the fourth one is each one's own.
    assert one.pages[:3] == two.pages[:3] == parent.pages[:3]
    assert len({r.pages[3] for r in (one, two, parent)}) == 3
    bench.finish()
    assert output(one) == expected([*range(7), 50], 2)
    assert output(two) == expected([*range(7), 60, 61], 2)
    assert output(parent) == expected(range(7), 5)
    assert bench.lost() == (0, 0)


def test_a_fork_outlives_a_parent_that_never_ran():
    bench = Bench()
    parent = bench.add(range(7), 5)
    child = bench.fork(parent, [50], 2)
    bench.scheduler.abort(parent)
    bench.finish()
    assert output(child) == expected([*range(7), 50], 2)
    assert bench.lost() == (0, 0)


def test_the_only_owner_of_a_page_need_not_copy_it():
    bench = Bench(replace(CONFIG, prefix_cache=False))
    parent = bench.add(range(7), 1)
    bench.finish()
    child = bench.fork(parent, [50], 2)
    pages = list(parent.pages)
    bench.scheduler.abort(parent)
    bench.finish()
    assert child.pages[:4] == pages and output(child) == expected([*range(7), 50], 2)
    assert bench.lost() == (0, 0)


def test_a_policy_says_who_comes_in():
    class Nobody(FirstCome):
        def admit(self, waiting, running, slots):
            return []

    bench = Bench(policy=Nobody())
    request = bench.add([1, 2], 3)
    assert bench.step() is None and output(request) == []
    bench.scheduler.abort(request)
    assert bench.lost() == (0, 0)


def test_what_is_halted_or_aborted_during_a_step_gets_nothing_of_it():
    bench = Bench(recurrent=True)
    halted, aborted = bench.add([1, 2, 3], 9), bench.add([4, 5, 6], 9)
    bench.step()
    work = bench.scheduler.plan()
    halted.end()
    bench.scheduler.abort(aborted)
    before = len(output(halted)), len(output(aborted))
    bench.scheduler.account(work, bench.run(work))
    assert (len(output(halted)), len(output(aborted))) == before
    assert bench.scheduler.running == [] and halted.computed == len(halted.tokens)
    child = bench.fork(halted, [9], 2)
    bench.finish()
    assert output(child) == expected([1, 2, 3, 9], 2)
    assert bench.lost() == (0, 0)


def test_guesses_that_find_no_page_are_left_out():
    config = replace(CONFIG, slots=1, pages=3, speculative=SpeculativeConfig("ngram", tokens=4))
    bench = Bench(config)
    request = bench.add([1, 1, 1, 1, 1], 1)
    bench.finish()
    # The last token is never guessed for.
    assert output(request) == expected([1] * 5, 1) and bench.scheduler.guessed == 0
    assert bench.lost() == (0, 0)
