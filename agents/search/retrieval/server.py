"""Search-R1's `/retrieve` over any retriever, as a Starlette application."""

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from loomax.agents.search.json_text import read_json
from loomax.agents.search.retrieval import wire
from loomax.agents.search.retrieval.retriever import Retriever

# What the most queries of the greatest length need in UTF-8, and some room.
MOST_BYTES = 32 * 2**20


def application(retriever: Retriever) -> Starlette:
    """`POST /retrieve` and `GET /health` (which tells the version of the corpus)."""

    async def retrieve(request: Request) -> JSONResponse:
        try:
            asked = wire.read_request(await _body(request))
        except ClientDisconnect:
            return Response()
        except ValueError as error:
            return JSONResponse({"error": str(error)}, status_code=400)

        def find() -> dict:
            found = [retriever.search(query, asked.topk) for query in asked.queries]
            return wire.write_answer(found, asked.return_scores)

        return JSONResponse(await run_in_threadpool(find))

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "version": retriever.version})

    return Starlette(
        routes=[
            Route("/retrieve", retrieve, methods=["POST"]),
            Route("/health", health, methods=["GET"]),
        ]
    )


async def _body(request: Request) -> object:
    """The JSON of a request; one that is too large is not read to its end."""
    held = bytearray()
    async for chunk in request.stream():
        held += chunk
        if len(held) > MOST_BYTES:
            raise ValueError(f"the body is longer than {MOST_BYTES} bytes; send fewer queries")
    return read_json(held)
