#!/usr/bin/env python3
"""Runs the steps of deploy/Containerfile in a plain chroot, for machines without a container engine.

    make dist && scripts/try_container.py [--keep FOLDER]

It takes root, debootstrap and a mirror of Debian and PyPI. The base image is a bootstrapped Debian; RUN, COPY, ENV, ARG
and USER do what they do in an engine, and at last the command serves, is asked whether it is well, and is stopped. What
pip needs to know of this machine (its settings and certificates) is the only thing that the chroot gets besides.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTAINERFILE = ROOT / "deploy/Containerfile"
START_S = 120
SETTINGS = re.compile(r"PIP_.*|.*_proxy|.*_PROXY|SSL_CERT_.*|REQUESTS_CA_BUNDLE")
SHARED = ("/etc/resolv.conf", "/etc/ssl/certs", "/etc/xdg/pip", "/opt/wheels", "/opt/pypi", "/opt/pypi-more")


def steps(text: str) -> list[tuple[str, str]]:
    """Instructions and their arguments."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


class Chroot:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
        self.environment |= {name: value for name, value in os.environ.items() if SETTINGS.fullmatch(name)}
        self.user = "root"
        self.workdir = "/"

    def command(self, program: list[str]) -> list[str]:
        mounts = [f"mount -t proc proc {self.folder}/proc", f"mount --rbind /dev {self.folder}/dev"]
        for path in filter(os.path.exists, SHARED):
            target = f"{self.folder}{path}"
            make = f"mkdir -p {target}" if os.path.isdir(path) else f"touch {target}"
            mounts.append(f"{make} && mount --bind {path} {target}")
        given = [f"{name}={value}" for name, value in self.environment.items()]
        inside = ["/usr/bin/env", "-i", *given, *program]
        if self.user != "root":
            inside = ["/usr/bin/setpriv", "--reuid", self.user, "--regid", self.user, "--init-groups", *inside]
        # The mounts are in a namespace of their own: they end with it.
        script = " && ".join([*mounts, f'exec chroot {self.folder} sh -c \'cd "$0" && exec "$@"\' {self.workdir} "$@"'])
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *inside]

    def run(self, program: list[str]) -> None:
        subprocess.run(self.command(program), check=True)

    def do(self, word: str, rest: str) -> None:
        if word == "RUN":
            self.run(["sh", "-ec", rest])
        elif word == "COPY":
            *sources, target = rest.split()
            (self.folder / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
            for source in sources:
                shutil.copy(ROOT / source, self.folder / target.lstrip("/"))
        elif word in ("ENV", "ARG"):
            for name, value in re.findall(r"(\w+)=(\S+)", rest):
                # As with --build-arg.
                self.environment[name] = os.environ.get(name, value) if word == "ARG" else value
        elif word == "USER":
            self.user = rest
        elif word == "WORKDIR":
            self.workdir = rest
        elif word not in ("FROM", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"):
            sys.exit(f"{CONTAINERFILE}: {word} is not known here")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="a folder with a bootstrapped Debian to use, or to make and keep")
    parser.add_argument("--port", type=int, default=8321)
    given = parser.parse_args()
    folder: Path = given.keep or Path(tempfile.mkdtemp())
    try:
        if not (folder / "bin").exists():
            subprocess.run(["debootstrap", "--variant=minbase", "bookworm", str(folder)], check=True)
        chroot = Chroot(folder.absolute())
        instructions = steps(CONTAINERFILE.read_text())
        for word, rest in instructions:
            print(f"--- {word} {rest}", flush=True)
            chroot.do(word, rest)
        program = [*json.loads(dict(instructions)["ENTRYPOINT"]), *json.loads(dict(instructions)["CMD"])]
        data_dir = program[program.index("--data-dir") + 1]
        chroot.run([program[0], "keys", "create", "try", "--data-dir", data_dir])
        serve(chroot, [*program, "--port", str(given.port)], given.port)
    finally:
        if given.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def serve(chroot: Chroot, program: list[str], port: int) -> None:
    process = subprocess.Popen(chroot.command(program))
    deadline = time.monotonic() + START_S
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
                    print("--- served:", answer.read().decode(), flush=True)
                    return
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit("--- it does not serve")
                time.sleep(0.2)
    finally:
        process.terminate()
        process.wait(60)


if __name__ == "__main__":
    main()
