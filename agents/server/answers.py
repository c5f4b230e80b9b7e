"""All samples of a request, part by part."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from loomax.agents.server.answer import Answer, Part
from loomax.agents.server.asked import Asked
from loomax.agents.server.generation import Arrival, Generation
from loomax.agents.server.reader import PlainReader
from loomax.agents.server.served import Served


async def answers(asked: Asked, served: Served) -> AsyncGenerator[list[tuple[int, Part]], None]:
    """Parts of samples with the samples' numbers; the end of a sample is its last part.

    Closing this aborts what is still generated.

    Raises:
        EngineError: the engine gave a sample up.
    """
    held = [_answer(asked, served, number) for number in range(len(asked.samples))]
    async with Generation(served.engine, asked.samples, asked.kind) as generation:
        async with aclosing(generation.arrivals()) as arrivals:
            async for batch in arrivals:
                yield [
                    _take(arrival, held, generation) for arrival in batch if _open(arrival, held)
                ]


def _answer(asked: Asked, served: Served, number: int) -> Answer:
    return Answer(
        served.tokens,
        served.ends,
        asked.stops,
        asked.samples[number].sampling.most,
        served.chat.reader(asked.tools) if asked.chat else PlainReader(),
        forced=asked.forced,
        single=asked.single,
    )


def _open(arrival: Arrival, held: list[Answer]) -> bool:
    """Whether a sample still goes on: what came together may hold its end and more."""
    return held[arrival.index].finish is None


def _take(arrival: Arrival, held: list[Answer], generation: Generation) -> tuple[int, Part]:
    answer = held[arrival.index]
    part = answer.close() if arrival.piece is None else answer.feed(arrival.piece)
    if part.finish:
        generation.end(arrival.index)
    return arrival.index, part
