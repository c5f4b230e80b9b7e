"""BM25 in PostgreSQL: one corpus for many processes and users."""

from collections.abc import Iterator, Sequence
from typing import Any

from loomax.agents.search.errors import ToolError
from loomax.agents.search.retrieval import postgres_schema as sql
from loomax.agents.search.retrieval.bm25 import weigh
from loomax.agents.search.retrieval.config import IndexConfig
from loomax.agents.search.retrieval.corpus import check_corpus, corpus_version
from loomax.agents.search.retrieval.document import Document, Hit
from loomax.agents.search.retrieval.retriever import check_search
from loomax.agents.search.retrieval.words import words


def _library() -> Any:
    try:
        import psycopg
        import psycopg_pool  # noqa: F401
    except ImportError:
        raise ValueError(
            "PostgreSQL needs the package psycopg: pip install 'loomax[postgres]'"
        ) from None
    return psycopg


def build_postgres(
    url: str, name: str, documents: Sequence[Document], config: IndexConfig | None = None
) -> str:
    """Makes these documents the current version of a corpus, in one transaction.

    The version before is kept for the readers that have it open; older ones are removed.

    Args:
        url: a connection string, such as postgresql://user@host/database.

    Returns:
        The version.

    Raises:
        ValueError: there are no documents, two share an id, or psycopg is not installed.
    """
    config = config or IndexConfig()
    check_corpus(documents, "the corpus")
    version = corpus_version(documents, config)
    with _library().connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(sql.LOCK, [""])
        cursor.execute(sql.TABLES)
        cursor.execute(sql.LOCK, [name])
        held = cursor.execute(sql.CURRENT, [name]).fetchone() or (None, None)
        if version == held[0]:
            return version
        if version != held[1]:
            with cursor.copy(sql.COPY_DOCUMENTS) as copy:
                for place, document in enumerate(documents):
                    row = (name, version, place, document.id, document.title, document.text)
                    copy.write_row(row)
            with cursor.copy(sql.COPY_POSTINGS) as copy:
                for posting in _postings(weigh(documents, config)):
                    copy.write_row((name, version, *posting))
        cursor.execute(sql.POINT, [name, version, held[0]])
        kept = [kept for kept in (version, held[0]) if kept]
        for statement in sql.DELETE:
            cursor.execute(statement, [name, kept])
        cursor.execute(sql.ANALYZE)
    return version


def _postings(index: Any) -> Iterator[tuple[str, int, float]]:
    """(word, place of the document, weight) of everything that bm25s weighed."""
    data, indices, starts = (index.scores[part] for part in ("data", "indices", "indptr"))
    for word, column in index.vocab_dict.items():
        if column >= len(starts) - 1:
            # The empty word, which has no column.
            continue
        for entry in range(starts[column], starts[column + 1]):
            yield word, int(indices[entry]), float(data[entry])


class PostgresRetriever:
    """Reads the version of a corpus that is current when it is opened.

    Args:
        connections: at most so many at once; further searches wait for one.
        timeout_s: of waiting for a connection, and of one statement.

    Raises:
        ValueError: the server has no such corpus.
        ToolError: the server cannot be reached.
    """

    def __init__(self, url: str, name: str, *, connections: int = 4, timeout_s: float = 10.0):
        self._psycopg, self._name = _library(), name
        # Also the library's own: `_library` has named what is missing.
        from psycopg_pool import ConnectionPool

        options = (
            f"-c statement_timeout={round(1000 * timeout_s)} -c default_transaction_read_only=on"
        )
        self._pool = ConnectionPool(
            url,
            kwargs={"autocommit": True, "options": options},
            min_size=1,
            max_size=connections,
            timeout=timeout_s,
            open=True,
        )
        try:
            row = self._query(sql.CURRENT, [name])
            if not row:
                raise ValueError(f"PostgreSQL holds no corpus {name!r}; build it first")
        except BaseException:
            self.close()
            raise
        self._version = row[0][0]

    @property
    def version(self) -> str:
        return self._version

    def search(self, query: str, k: int) -> tuple[Hit, ...]:
        """See `Retriever`.

        Raises:
            ToolError: the server failed, or this version has been replaced twice.
        """
        check_search(query, k)
        asked = {"words": words(query), "corpus": self._name, "version": self._version, "k": k}
        rows = self._query(sql.SEARCH, asked) if asked["words"] else []
        if not rows and not self._query(sql.EXISTS, [self._name, self._version]):
            raise ToolError(f"version {self._version} of {self._name!r} is gone: open it again")
        return tuple(Hit(Document(*row[:3]), float(row[3])) for row in rows)

    def close(self) -> None:
        """Closes all connections."""
        self._pool.close()

    def _query(self, statement: str, values: Any) -> list[tuple]:
        try:
            with self._pool.connection() as connection:
                return connection.execute(statement, values).fetchall()
        except self._psycopg.errors.UndefinedTable:
            return []
        except self._psycopg.Error as error:
            raise ToolError(f"PostgreSQL: {type(error).__name__}: {error}") from None
