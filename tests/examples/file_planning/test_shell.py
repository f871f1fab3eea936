"""The shell looks into its repository and nowhere else, changes nothing, and always comes to an end."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from examples.common.tool_server import BadArguments
from examples.file_planning import jail
from examples.file_planning.programs import PROGRAMS
from examples.file_planning.shell import MAX_BYTES, Limits, Shell

SECRET = "a secret outside of the repository"


@pytest.fixture(
    params=[
        pytest.param(True, marks=pytest.mark.skipif(not jail.works(), reason="bubblewrap makes no jail here")),
        False,
    ],
    ids=["jailed", "plain"],
)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    """A shell over a small repository, beside which there is a secret and into which a link leads."""
    root = tmp_path / "repository"
    (root / "inner").mkdir(parents=True)
    (root / "a.py").write_text("import os\n\ndef first():\n    return 'one'\n")
    (root / "inner" / "b.py").write_text("from a import first\n")
    (tmp_path / "secret.txt").write_text(SECRET + "\n")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "folder-link").symlink_to(tmp_path)
    return Shell(root.resolve(), jailed=request.param)


def run(shell: Shell, line: str) -> str:
    return shell.run(line, shell.root)[0]


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("grep -rn first .", "./a.py:3:def first():\n./inner/b.py:1:from a import first\n"),
        ("grep -rlw first --include=*.py .", "./a.py\n./inner/b.py\n"),
        ("grep -rn 'def first' . | head -1", "./a.py:3:def first():\n"),
        ("grep -c 'one$' a.py", "0\n"),
        ('grep -E "(def|class) first" *.py', "def first():\n"),
        ("find . -name '*.py' -type f", "./a.py\n./inner/b.py\n"),
        ("ls inner", "b.py\n"),
        ("cd inner && ls", "b.py\n"),
        ("cat a.py | grep -n return | cut -d: -f1", "4\n"),
        ("head -n 1 a.py && tail -1 a.py", "import os\n    return 'one'\n"),
        ("sed -n 3,4p a.py", "def first():\n    return 'one'\n"),
        ("cat a.py inner/b.py 2>/dev/null | wc -l", "5\n"),
        ("sort -r inner/../a.py | uniq | head -1", "import os\n"),
        ("grep ';' a.py", ""),
        ("cat nothing.py", "cat: nothing.py: No such file or directory\n"),
    ],
)
def test_it_prints_what_the_programs_print(shell: Shell, line: str, printed: str) -> None:
    assert run(shell, line) == printed


def test_lines_of_one_file_stay_in_their_order_and_files_come_by_name(shell: Shell) -> None:
    (shell.root / "long.py").write_text("".join(f"x = {100 - number}: y\n" for number in range(12)))
    for options in ("-n", "-rn", "-r", "-rhn"):
        numbers = [line.split("x = ")[1] for line in run(shell, f"grep {options} 'x =' long.py").splitlines()]
        assert numbers == [f"{100 - number}: y" for number in range(12)]
    for letter in "qcazb":
        (shell.root / "inner" / f"{letter}.txt").write_text("z = 2\nz = 1\n")
    expected = [f"inner/{letter}.txt:z = {n}" for letter in "abcqz" for n in (2, 1)]
    assert run(shell, "grep -r z inner").splitlines() == expected


def test_a_folder_is_kept_for_the_next_command_line(shell: Shell) -> None:
    _, folder = shell.run("cd inner", shell.root)
    assert shell.run("ls", folder)[0] == "b.py\n"
    _, folder = shell.run("cd ..", folder)
    assert folder == shell.root
    assert shell.run("cd inner && cd", folder)[1] == shell.root


def test_after_a_command_that_fails_the_rest_is_not_run(shell: Shell) -> None:
    assert run(shell, "grep nowhere a.py && ls") == ""
    assert "inner" in run(shell, "grep one a.py && ls")


ESCAPES = [
    # Out of the repository by a path.
    "cat ../secret.txt",
    "cat inner/../../secret.txt",
    "cat /etc/passwd",
    "cat //etc/passwd",
    "grep -r secret ..",
    "grep -r secret /",
    "grep secret -- ../secret.txt",
    "grep -e secret ../secret.txt",
    "ls ..",
    "ls /",
    "find .. -name '*.txt'",
    "find / -maxdepth 1",
    "cd ..",
    "cd /",
    "cd inner && cat ../../secret.txt",
    "head -c 10 /proc/self/environ",
    "wc -c '../secret.txt'",
    "cat .\\./secret.txt",
    "cat ../*.txt",
    "cat /etc/pass*",
    # By a link.
    "cat link.txt",
    "cat *.txt",
    "cat folder-link/secret.txt",
    "ls folder-link/",
    "cd folder-link",
    "grep -r secret folder-link",
    "grep -R secret .",
    "grep -rR secret .",
    "grep --dereference-recursive secret .",
    "find -L . -name secret.txt",
    "find . -follow -name secret.txt",
    "ls -L link.txt",
    # By names, patterns or scripts that another file holds.
    "grep -f /etc/passwd a.py",
    "grep -f../secret.txt a.py",
    "grep -rf /etc/passwd .",
    "grep --file=/etc/passwd a.py",
    "grep --fil=/etc/passwd a.py",
    "grep --exclude-from=/etc/passwd -r x .",
    "wc --files0-from=/etc/passwd",
    "sort --files0-from=/etc/passwd",
    "find -files0-from /etc/passwd",
    "sed -f /etc/passwd a.py",
    # Running something.
    "find . -exec cat {} +",
    "find . -name a.py -execdir cat {} +",
    "find . -ok cat {} +",
    "sort --compress-program=sh a.py",
    "sed -n '1e cat /etc/passwd' a.py",
    "sed 's/x/id/e' a.py",
    "bash -c ls",
    "sh",
    "env cat a.py",
    "xargs cat",
    "python3 -c 'print(1)'",
    "awk 'BEGIN{system(\"id\")}'",
    "./a.py",
    "/bin/ls",
    "curl http://127.0.0.1/",
    "ls; cat a.py",
    "ls & cat a.py",
    "ls || cat a.py",
    "ls $(cat a.py)",
    "ls `cat a.py`",
    'ls "$(cat a.py)"',
    'ls "`cat a.py`"',
    "cat $HOME/x",
    "cat ${HOME}/x",
    "cat <(ls)",
    "(ls)",
    "ls\ncat a.py",
    # Writing or deleting.
    "ls > new.txt",
    "ls >> a.py",
    "cat < a.py",
    "find . -delete",
    "find . -name a.py -fprint new.txt",
    "find . -fls new.txt",
    "sort -o a.py a.py",
    "sort --output=new.txt a.py",
    "sort -T /tmp a.py",
    "uniq a.py new.txt",
    "sed -i s/one/two/ a.py",
    "sed -n 'w new.txt' a.py",
    "sed -n '1w new.txt' a.py",
    "tee new.txt",
    "rm a.py",
    "cp a.py new.txt",
    "touch new.txt",
    # Waiting for ever.
    "tail -f a.py",
    "tail --follow a.py",
    "yes",
    "sleep 100",
    # What is no command line.
    "",
    "   ",
    "ls |",
    "| ls",
    "ls && ",
    "ls 'inner",
    "ls \0",
    "ls \ud83d",
    "grep",
    "grep -e",
    "ls " + "x" * 5000,
]


@pytest.mark.parametrize("line", ESCAPES)
def test_whatever_would_leave_run_write_or_wait_is_refused_in_words(shell: Shell, line: str) -> None:
    before = tree(shell.root)
    with pytest.raises(BadArguments) as refused:
        run(shell, line)
    assert str(refused.value)
    assert SECRET not in str(refused.value)
    assert tree(shell.root) == before


@pytest.mark.parametrize("line", ["grep -r secret .", "find . -name '*secret*'", "grep -rs secret . | cat", "ls -lR"])
def test_searches_of_everything_do_not_follow_links(shell: Shell, line: str) -> None:
    assert SECRET not in run(shell, line)


def test_a_command_that_never_ends_is_ended(shell: Shell) -> None:
    os.mkfifo(shell.root / "pipe")
    started = time.monotonic()
    hasty = Shell(shell.root, shell.jailed, timeout_s=0.3)
    with pytest.raises(BadArguments, match="more than 0.3 s"):
        run(hasty, "cat pipe | head -1")
    # Far above what it takes, and far below for ever.
    assert time.monotonic() - started < 30


def test_a_command_that_reads_its_input_finds_it_empty(shell: Shell) -> None:
    assert run(shell, "cat") == ""
    assert run(shell, "grep x -") == ""


def test_of_a_huge_output_only_a_bounded_part_is_read(shell: Shell) -> None:
    with (shell.root / "huge.txt").open("w") as file:
        file.truncate(50 * MAX_BYTES)
    assert len(run(shell, "cat huge.txt")) <= MAX_BYTES
    assert Limits(lines=3, columns=10).cut("x" * 50 + "\n" * 7) == "xxxxxxxxx…\n\n\n(4 more lines)"


@pytest.mark.skipif(not jail.works(), reason="bubblewrap makes no jail here")
@pytest.mark.parametrize("program", sorted(set(PROGRAMS) - {"pwd", "uniq", "cut", "sed"}))
def test_inside_the_jail_there_is_nothing_but_the_repository_and_the_program(tmp_path: Path, program: str) -> None:
    """The second wall, without the first one: what if an argument got through?"""
    (tmp_path / "repository").mkdir()
    (tmp_path / "secret.txt").write_text(SECRET)
    root = (tmp_path / "repository").resolve()
    attempts = {
        "ls": ["/etc", "/home", "/root", "/proc", "/bin/sh", "/dev", str(tmp_path)],
        "find": ["/etc", "/home", "/bin/sh", "/proc", str(tmp_path)],
    }.get(program, ["/etc/passwd", "/proc/self/environ", "/bin/sh", f"{tmp_path}/secret.txt", "../secret.txt"])
    for path in attempts:
        arguments = ["x", path] if program == "grep" else [path]
        done = subprocess.run(jail.jailed([program, *arguments], root, root), capture_output=True, timeout=60, env={})
        assert (done.returncode != 0, done.stdout.replace(b"0 total", b"")) == (True, b""), path


@pytest.mark.skipif(not jail.works(), reason="bubblewrap makes no jail here")
def test_inside_the_jail_nothing_can_be_written_or_run(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    (root / "a.py").write_text("b\na\n")
    before = tree(root)
    for command in (
        ["sort", "-o", "a.py", "a.py"],
        ["find", ".", "-delete"],
        ["find", ".", "-exec", "/bin/sh", "-c", "echo", "{}", ";"],
        ["find", ".", "-fprint", "/new.txt"],
        ["sed", "-n", "1e echo run", "a.py"],
    ):
        done = subprocess.run(jail.jailed(command, root, root), capture_output=True, timeout=60, env={})
        assert b"run" not in done.stdout
        assert done.stderr
    assert tree(root) == before


def tree(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
