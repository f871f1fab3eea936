"""The composition names what is there, and its bucket is made on a real S3 server. Running it takes an engine."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.cli.commands import run_here
from tests.docs.markdown import ROOT
from tests.server.buckets import SIGNED, bucket, environment

DEPLOY = ROOT / "deploy"
COMPOSITION: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSITION["services"]
# Of postgres, of S3's tools, and ours.
KNOWN = re.compile(r"POSTGRES_|AWS_")


@pytest.mark.parametrize("name", ["server", "worker"])
def test_commands_parse(name: str) -> None:
    assert run_here(*SERVICES[name]["command"], "--help").code == 0


def test_variables_are_read_by_somebody() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    named = {name for service in SERVICES.values() for name in service["environment"]}
    assert {name for name in named if not KNOWN.match(name) and name not in sources} == set()


def test_every_variable_to_fill_in_is_in_the_example_and_must_be_set() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    asked = set(re.findall(r"\$\{([A-Z_]+):\?", text))
    assert set(re.findall(r"\$\{([A-Z_]+)", text)) == asked
    assert set(re.findall(r"^([A-Z_]+)=$", (DEPLOY / ".env.example").read_text(), re.MULTILINE)) == asked


def test_services_depend_on_services_and_keep_what_they_make_in_volumes() -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        named = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert {volume for volume in named if not volume.startswith("./")} <= set(COMPOSITION["volumes"])


def test_the_bucket_is_made_once(tmp_path: Path) -> None:
    with bucket(tmp_path / "s3.log") as url:
        made = {**os.environ, **environment(url)}
        for _ in range(2):
            subprocess.run([sys.executable, str(DEPLOY / "make_bucket.py"), "new"], env=made, check=True, timeout=60)
        assert httpx.get(f"{url}/new", headers=SIGNED).status_code == 200
