"""What `loomax plan rl`, `aot table` and `launch` refuse before anything is compiled or started."""

import pytest

from loomax.cli.main import main


@pytest.mark.parametrize(
    "words, message",
    [
        ("plan rl --config point-mass --devices 0", "--devices is '0': give a whole number"),
        ("plan rl --config point-mass --rounds some", "--rounds is 'some': give a whole number"),
        ("plan rl --devices 2 --topology v5e:2x2", "--devices and --topology: give one of them"),
        ("plan rl --try 2 --topology v5e:2x2", "--try and --topology: only what is here can run"),
        ("plan rl --try no", "--try is 'no': give a whole number of at least 1"),
        ("plan rl --memory much", "--memory is 'much', no number of bytes: write 15GiB"),
        ("plan rl --topology banana", "unknown topology 'banana': for example v5e:4x4"),
        ("plan rl --topology v5e:0x2", "'0x2' are no sides of a slice: give numbers of at least 1"),
        ("plan rl --config point-mas", "did you mean point-mass"),
        ("aot table --configs quickstrat", "config 'quickstrat': did you mean quickstart"),
        ("launch --processes 2", "nothing to start: give a command after --"),
        ("launch --processes 2 -- train", "add --name RUN --resume to the command"),
        ("launch --restarts 1 -- train --name x", "add --name RUN --resume to the command"),
        ("launch --processes 2 -- train --name --resume", "--name needs a value"),
        ("launch --restarts 1 -- train --name= --resume", "--name needs a value"),
        ("launch --hosts= -- train", "--hosts has '': give names"),
        ("launch --hosts=-oX=y -- train", "--hosts has '-oX=y': give names"),
        (
            "launch --processes 100000 -- train",
            "--processes is 100000: give at least 1 and at most 1024",
        ),
        ("launch --topology v5e:4x4 -- train", "--topology is read with --jobset only"),
        ("launch --slices 2 -- train", "--slices is read with --jobset only"),
        ("launch --folder /x -- train", "--folder is read with --hosts only"),
        ("launch --hosts -- train", "--hosts needs at least one value"),
        ("launch --grace -5 -- train", "--grace is -5.0: give at least 0"),
        ("launch --grace nan -- train", "--grace is nan: give a finite number"),
        ("launch --grace inf -- train", "--grace is inf: give a finite number"),
        ("launch --processes 0 -- train", "--processes is 0: give at least 1"),
        ("launch --processes 2 --hosts a b --print -- train", "--processes 2 is for this machine"),
        ("launch --hosts a --jobset x -- train", "--hosts and --jobset are two ways"),
        ("launch -- trian --config debug", "behind --: unknown verb 'trian'"),
        ("launch -- launch -- train", "behind --: launch cannot start itself"),
        ("launch -- train --config debgu", "behind --: unknown config 'debgu'"),
        ("launch -- train lm --config=quickstart", "behind --: unknown config 'quickstart'"),
        ("launch -- train ml --config debug", "unknown kind of model 'ml'"),
        (
            "launch --processes 2 -- nas train --name x --resume",
            "behind --: nas runs in one process",
        ),
        ("launch --hosts a b -- eval x", "behind --: eval runs in one process"),
        (
            "launch --processes 3 --jobset x --topology v5e:4x4 --image i"
            " -- train --name x --resume",
            "--processes is 3, but 1 x v5e:4x4 has 4 hosts",
        ),
        ("launch --jobset x -- train", "--jobset needs --topology"),
        ("launch --jobset x --topology v5e:4x4 -- train", "--jobset needs --image"),
        (
            "launch --jobset x --topology v5e:4x4 --image i -- train",
            "add --name RUN --resume --runs /runs",
        ),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(words, message, capsys, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # --topology sets it
    with pytest.raises(SystemExit) as stopped:
        main(words.split())
    assert stopped.value.code == 2
    said = capsys.readouterr().err.strip()
    assert message in said and len(said.splitlines()) == 1


@pytest.mark.parametrize("size", ["banana", "", "-1", "1e400", "nan"])
@pytest.mark.parametrize("options", ["", "--resume --name old"])
def test_a_budget_to_fit_into_is_checked_also_where_a_run_goes_on(size, options, capsys, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text('{"name": "lm-debug"}')
    words = ["train", "lm", *options.split(), "--runs", str(tmp_path), f"--fit={size}"]
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (f"--fit is {size!r}" if size else "--fit needs a value") in line


def test_print_starts_nothing(capsys):
    with pytest.raises(SystemExit) as stopped:
        main("launch --processes 2 --print -- train --name x --resume".split())
    assert stopped.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all("-m loomax train --name x --resume" in line for line in lines)
