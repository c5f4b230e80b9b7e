"""Tables of corpora in PostgreSQL, and the statements on them.

`ts_rank` is not BM25 and ranks worse (59 % of the gold documents of a package index among the
first five, against 92 % for BM25), so the weights of BM25 lie in a table of their own: a search
is one sum over an index.
"""

TABLES = """
CREATE TABLE IF NOT EXISTS loomax_corpora (
    name text PRIMARY KEY,
    version text NOT NULL,
    previous text
);
CREATE TABLE IF NOT EXISTS loomax_documents (
    corpus text,
    version text,
    place integer,
    id text NOT NULL,
    title text NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (corpus, version, place)
);
CREATE TABLE IF NOT EXISTS loomax_postings (
    corpus text,
    version text,
    word text,
    place integer,
    weight real NOT NULL,
    PRIMARY KEY (corpus, version, word, place) INCLUDE (weight)
);
"""

# One build of a corpus at a time, from any machine; the lock ends with the transaction. The
# second one keeps two first builds from making the tables at once.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('loomax'), hashtext(%s))"
CURRENT = "SELECT version, previous FROM loomax_corpora WHERE name = %s"
# A word that comes twice in the query counts twice.
SEARCH = """
WITH asked AS (SELECT word, count(*) AS times FROM unnest(%(words)s::text[]) AS word GROUP BY word),
scored AS (
    SELECT place, sum(times * weight) AS score
    FROM asked JOIN loomax_postings USING (word)
    WHERE corpus = %(corpus)s AND version = %(version)s
    GROUP BY place ORDER BY score DESC, place LIMIT %(k)s
)
SELECT id, title, body, score
FROM scored JOIN loomax_documents USING (place)
WHERE corpus = %(corpus)s AND version = %(version)s
ORDER BY score DESC, place
"""
# A reader that has lost its version must not take that for an empty result.
EXISTS = "SELECT 1 FROM loomax_documents WHERE corpus = %s AND version = %s LIMIT 1"
POINT = """
INSERT INTO loomax_corpora VALUES (%s, %s, %s)
ON CONFLICT (name) DO UPDATE SET version = excluded.version, previous = excluded.previous
"""
DELETE = (
    "DELETE FROM loomax_documents WHERE corpus = %s AND version <> ALL(%s)",
    "DELETE FROM loomax_postings WHERE corpus = %s AND version <> ALL(%s)",
)
# Without statistics the planner reads all documents for each hit.
ANALYZE = "ANALYZE loomax_documents, loomax_postings"
COPY_DOCUMENTS = "COPY loomax_documents FROM STDIN"
COPY_POSTINGS = "COPY loomax_postings FROM STDIN"
