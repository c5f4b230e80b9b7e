"""PostgreSQL, on a server that is started for the tests."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from loomax.agents.search.errors import ToolError
from loomax.agents.search.retrieval.build import memory_index
from loomax.agents.search.retrieval.document import Document
from loomax.agents.search.retrieval.postgres import PostgresRetriever, build_postgres
from loomax.agents.search.retrieval.retriever import Retriever

psycopg = pytest.importorskip("psycopg")
pytest.importorskip("psycopg_pool")


def user():
    """Who may run the server: PostgreSQL refuses to be run by root."""
    if os.getuid():
        return {}
    for name in ("postgres", "nobody"):
        try:
            return {"user": pwd.getpwnam(name).pw_uid, "group": pwd.getpwnam(name).pw_gid}
        except KeyError:
            pass
    pytest.skip("root cannot run PostgreSQL, and there is no user postgres or nobody")


@pytest.fixture(scope="module")
def url():
    """A server of its own, on a socket in a folder that only it uses."""
    if not (shutil.which("initdb") and shutil.which("postgres")):
        pytest.skip("initdb and postgres are not on the PATH")
    who = user()
    # Not pytest's folder: root's is closed to others.
    folder = Path(tempfile.mkdtemp(prefix="loomax-pg-"))
    if who:
        os.chown(folder, who["user"], who["group"])
    options = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | who
    data = str(folder / "data")
    subprocess.run(
        ["initdb", "-D", data, "-A", "trust", "-U", "loomax", "-E", "UTF8", "--no-sync"],
        check=True,
        **options,
    )
    server = subprocess.Popen(
        ["postgres", "-D", data, "-k", str(folder), "-c", "listen_addresses=", "-c", "fsync=off"],
        **options,
    )
    try:
        address = f"host={folder} user=loomax dbname=postgres"
        for _ in range(300):
            try:
                psycopg.connect(address).close()
                break
            except psycopg.OperationalError:
                time.sleep(0.1)
        yield address
    finally:
        # A fast shutdown; SIGTERM would wait for every client to leave.
        server.send_signal(signal.SIGINT)
        server.wait(timeout=60)
        shutil.rmtree(folder)


@pytest.fixture
def opened(url):
    """Opens retrievers and closes them."""
    held = []

    def make(name, **given):
        held.append(PostgresRetriever(url, name, **given))
        return held[-1]

    yield make
    for retriever in held:
        retriever.close()


def test_scores_are_those_of_the_formula(url, opened, corpus, reference):
    version = build_postgres(url, "formula", corpus)
    retriever = opened("formula")
    assert isinstance(retriever, Retriever) and retriever.version == version
    for query in ("w0", "w3 w17", "name-7 w1", "w30 w30 w2", "w39 unknown name-59"):
        expected = reference(corpus, query.split())
        hits = retriever.search(query, 10)
        top = np.sort(expected[expected > 0])[::-1][:10]
        np.testing.assert_allclose([hit.score for hit in hits], top, rtol=2e-5)
        for hit in hits:
            assert hit.score == pytest.approx(expected[corpus.index(hit.document)], rel=2e-5)
    assert version == memory_index(corpus).version


def test_nothing_to_find(url, opened, corpus):
    build_postgres(url, "nothing", corpus)
    retriever = opened("nothing")
    assert retriever.search("", 3) == retriever.search("unknown", 3) == ()
    with pytest.raises(ValueError, match="k is 0"):
        retriever.search("w0", 0)


def test_text_of_any_kind_is_stored(url, opened):
    odd = Document("a'b", "tab\there", "x \\N \\. \u00e9 \U0001f600\nline; DROP TABLE x --")
    build_postgres(url, "odd", [odd])
    assert opened("odd").search("drop 'x", 1)[0].document == odd


def versions(url, name):
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT DISTINCT version FROM loomax_postings WHERE corpus = %s", [name]
        )
        return {row[0] for row in rows}


def test_readers_keep_their_version_for_one_build(url, opened):
    made = [[Document("1", "", f"same {number}")] for number in range(3)]
    first = build_postgres(url, "moving", made[0])
    reader = opened("moving")
    second = build_postgres(url, "moving", made[1])
    assert reader.search("same", 1)[0].document.text == "same 0"
    assert opened("moving").search("same", 1)[0].document.text == "same 1"
    assert versions(url, "moving") == {first, second}
    build_postgres(url, "moving", made[2])
    with pytest.raises(ToolError, match="is gone: open it again"):
        reader.search("same", 1)


def test_a_version_can_come_back(url, opened):
    one, two = [Document("1", "", "one")], [Document("1", "", "two")]
    first = build_postgres(url, "back", one)
    build_postgres(url, "back", two)
    assert build_postgres(url, "back", one) == build_postgres(url, "back", one) == first
    assert opened("back").search("one", 1) and len(versions(url, "back")) == 2


def test_a_build_that_fails_changes_nothing(url, opened, monkeypatch):
    first = build_postgres(url, "failing", [Document("1", "", "one")])

    def fail(index):
        yield "one", 0, 1.0
        raise OSError("killed")

    monkeypatch.setattr("loomax.agents.search.retrieval.postgres._postings", fail)
    with pytest.raises(OSError, match="killed"):
        build_postgres(url, "failing", [Document("1", "", "two")])
    assert versions(url, "failing") == {first} and opened("failing").version == first


def test_corpora_do_not_mix(url, opened):
    build_postgres(url, "left", [Document("1", "", "word left")])
    build_postgres(url, "right", [Document("1", "", "word right")])
    assert [hit.document.text for hit in opened("left").search("word", 9)] == ["word left"]


def test_many_users_at_once(url, opened, corpus):
    build_postgres(url, "many", corpus)
    retriever, expected = opened("many", connections=3), memory_index(corpus)
    found = {}

    def ask(number):
        found[number] = retriever.search(f"name-{number} w3", 2)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(24):
        wanted = expected.search(f"name-{number} w3", 2)
        assert [h.document for h in found[number]] == [h.document for h in wanted]


def test_what_is_not_there_is_named(url):
    with pytest.raises(ValueError, match="PostgreSQL holds no corpus 'gone'; build it first"):
        PostgresRetriever(url, "gone")
    with pytest.raises(ToolError, match="PostgreSQL: PoolTimeout"):
        PostgresRetriever("host=/nowhere user=x", "gone", timeout_s=0.3)
