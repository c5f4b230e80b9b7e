"""`loomax serve` and `loomax search ask`: wrong use in one line, and an agent from end to end."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from loomax.agents.server.listen import bind
from loomax.cli.main import main
from loomax.cli.serve import tensor_mesh


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serve"], "model"),
        (["serve", "--model", "x", "--slots", "0"], "--slots is 0: give at least 1"),
        (["serve", "--model", "x", "--port", "70000"], "--port is 70000: give at most 65535"),
        (["serve", "--model", "x", "--port", "-1"], "--port is -1: give at least 0"),
        (["serve", "--model", "x", "--grace", "nan"], "--grace is nan"),
        (["serve", "--model", "x", "--grace", "inf"], "--grace is inf"),
        (["serve", "--model", "x", "--idle", "0"], "--idle is 0.0: give more than 0 seconds"),
        (["serve", "--model", "x", "--slow-body", "nan"], "--slow-body is nan: give"),
        (["serve", "--model", "x", "--unread", "-1"], "--unread is -1.0: give more than 0"),
        (["serve", "--model", "x", "--connections", "0"], "--connections is 0: give at least 1"),
        (["serve", "--model", "x", "--tensor", "0"], "--tensor is 0: give at least 1"),
        (["serve", "--model", "x", "--prot", "1"], "did you mean --port"),
        (["serve", "--model", "absent", "--runs", "RUNS"], "no run in"),
        (["search", "ask", "who?"], "give either --model RUN or --url URL"),
        (["search", "ask", "who?", "--model", "a", "--url", "http://x"], "give either --model"),
        (["search", "ask", "who?", "--url", "http://x/v1"], "--url needs --name"),
        (["search", "ask", "who?", "--url", "far", "--name", "m", "--index", "INDEX"],
         "url is 'far'; it must start with http"),
        (["search", "ask", "who?", "--url", "http://x/v1", "--name", "m", "--boldness", "2",
          "--index", "INDEX"], "boldness is 2"),
        (["search", "ask", "who?", "--model", "absent", "--index", "INDEX", "--runs", "RUNS"],
         "no run in"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line(capsys, words, message, tmp_path, index):
    places = {"RUNS": str(tmp_path / "runs"), "INDEX": index}
    with pytest.raises(SystemExit) as caught:
        main([places.get(word, word) for word in words])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_in_use_is_told_before_anything_is_loaded(capsys, host):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = str(held.getsockname()[1])
        with pytest.raises(SystemExit) as caught:
            main(["serve", "--model", "absent", "--host", host, "--port", port])
    out, err = capsys.readouterr()
    (line,) = err.strip().splitlines()
    assert caught.value.code == 3 and not out
    assert f"cannot serve on {host} port {port}: Address already in use; give another" in line


def test_an_address_of_another_machine(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--model", "absent", "--host", "192.0.2.1"])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert caught.value.code == 3 and "cannot serve on 192.0.2.1 port 8000" in line


def test_a_free_port_is_taken():
    first, second = bind("127.0.0.1", 0), bind("127.0.0.1", 0)
    ports = {one.getsockname()[1] for one in (*first, *second)}
    for one in (*first, *second):
        one.close()
    assert len(ports) == 2 and 0 not in ports


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    path = folder / "corpus.jsonl"
    documents = [{"id": "a", "title": "Cube", "text": "The cube is red."},
                 {"id": "b", "title": "Disc", "text": "The disc is blue."}]  # fmt: skip
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    main(["search", "index", str(path), "--out", str(folder / "index")])
    return str(folder / "index")


class Endpoint(BaseHTTPRequestHandler):
    """Searches once and repeats what it has read."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        found = [m["content"] for m in body["messages"] if m["role"] == "tool"]
        call = {"index": 0, "id": "1",
                "function": {"name": "search", "arguments": '{"query": "cube"}'}}  # fmt: skip
        delta = {"content": json.loads(found[0])["documents"][0]["text"]} if found else {}
        delta = delta or {"tool_calls": [call]}
        choices = [{"index": n, "delta": delta, "finish_reason": "stop"} for n in range(body["n"])]
        refused = self.headers["authorization"] != "Bearer secret"
        self.send_response(401 if refused else 200)
        self.end_headers()
        self.wfile.write(
            b"" if refused else f"data: {json.dumps({'choices': choices})}\n\n".encode()
        )

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def url():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def ask(url, index, *more):
    given = ["--url", url, "--name", "m", "--index", index, *more]
    return main(["search", "ask", "What colour has the cube ?", *given])


def test_a_question(capsys, url, index, tmp_path, monkeypatch):
    monkeypatch.setenv("LOOMAX_API_KEY", "secret")
    assert ask(url, index, "--trace", str(tmp_path / "trace.jsonl")) == 0
    *live, figures, answer = capsys.readouterr().out.splitlines()
    assert answer == "The cube is red." and figures.startswith("1 searches in ")
    kinds = [line.split()[4] for line in live]
    assert kinds[0] == "start" and kinds[-1] == "end" and "observation" in kinds
    events = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    assert [event["kind"] for event in events if event["kind"] in ("start", "turn", "end")] == [
        "start", "turn", "turn", "end"]  # fmt: skip


def test_a_question_without_an_answer(capsys, url, index):
    with pytest.raises(SystemExit) as caught:
        ask(url, index, "--api-key", "wrong")
    assert caught.value.code == 1
    assert "no answer: engine: rejected: Rejected: HTTP 401" in capsys.readouterr().err


def test_more_devices_than_there_are_is_refused():
    with pytest.raises(ValueError, match="--tensor is 9, but there are 8 devices: give fewer"):
        tensor_mesh(9)
    assert dict(tensor_mesh(2).shape) == {"replica": 1, "fsdp": 1, "context": 1, "tensor": 2}
