"""The search commands of the README, one after the other, from what a fresh clone holds."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loomax.agents.search.world.config import WorldConfig
from loomax.agents.search.world.questions import Question, text_of
from loomax.agents.search.world.solve import solve
from loomax.agents.search.world.world import make_world

RUN = Path(__file__).parents[1] / "assets" / "searcher-score"
ENVIRONMENT = {**os.environ, "JAX_PLATFORMS": "cpu"}


def loomax(*words, folder):
    """(exit code, output lines, error lines) of a command."""
    done = subprocess.run([sys.executable, "-m", "loomax", *words], cwd=folder, env=ENVIRONMENT,
                          capture_output=True, text=True, check=False, timeout=600)  # fmt: skip
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


@pytest.mark.multiprocess
def test_a_question_is_answered_by_a_run_and_by_a_server_of_it(tmp_path):
    world = make_world(WorldConfig())
    (start,) = (n for n in range(world.config.entities) if world.name(n) == "Dol-pun")
    question = Question("chain", start, (2, 2, 1))
    asked, solution = text_of(world, question), solve(world, question)
    assert asked == "founder of rival of rival of Dol-pun ?"
    answer, searches = world.name(solution.answer.entity), len(solution.searches)

    code, (line,), _ = loomax("search", "index", "world", folder=tmp_path)
    assert code == 0 and line.startswith("20000 documents, bm25s: indexes/default/")
    code, lines, _ = loomax("search", "ask", asked, "--model", str(RUN), folder=tmp_path)
    assert (code, lines[-1]) == (0, answer) and lines[-2].startswith(f"{searches} searches")

    words = ["serve", "--model", str(RUN), "--port", "0"]
    command = [sys.executable, "-m", "loomax", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=pipe, text=True) as server:
        try:
            said = server.stdout.readline()
            url = re.search(r"http://\S+/v1", said)[0]
            endpoint = ["--url", url, "--name", "searcher-score", "--api", "searcher"]
            code, lines, _ = loomax("search", "ask", asked, *endpoint, folder=tmp_path)
            assert (code, lines[-1]) == (0, answer) and lines[-2].startswith(f"{searches} searches")
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0
        finally:
            server.kill()
