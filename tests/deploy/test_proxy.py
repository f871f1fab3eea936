"""The site of nginx in front of a server: TLS, large uploads, and streams that are not held back."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.docs.markdown import ROOT
from tests.job.tiny_job import serving
from tests.server.live import MODEL, Live, live, method, upload
from tests.traffic.chaos_server import ChaosServer, ok

NAME = "agentrft.example.com"
MB = 1024 * 1024
START_S = 30
SNI = {"sni_hostname": NAME}

pytestmark = pytest.mark.skipif(
    shutil.which("nginx") is None, reason="the example for nginx is run by nginx, which agentrft does not need"
)


@dataclass(frozen=True)
class Site:
    """nginx's two addresses, and a client of the second that trusts its certificate."""

    http: str
    client: httpx.Client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("behind") / "data", tiny_model, "--trusted-host", NAME) as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, server: Live) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("nginx")
    plain, tls = _free_port(), _free_port()
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, "-addext", f"subjectAltName=DNS:{NAME}", *files], check=True, capture_output=True)
    shipped = (ROOT / "deploy/nginx.conf").read_text()
    for old, new in {
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "listen 443 ": f"listen 127.0.0.1:{tls} ",
        "/etc/ssl/certs/agentrft.pem": str(certificate),
        "/etc/ssl/private/agentrft.key": str(key),
        "http://127.0.0.1:8321": f"http://127.0.0.1:{server.port}",
    }.items():
        assert shipped.count(old) == 1, old
        shipped = shipped.replace(old, new)
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/errors; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/bodies; proxy_temp_path {folder}/answers;\n"
        f"{shipped}}}\n"
    )
    nginx = subprocess.Popen(
        ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "errors")]
    )
    try:
        deadline = time.monotonic() + START_S
        while not _listens(tls):
            assert nginx.poll() is None and time.monotonic() < deadline, (folder / "errors").read_text()
            time.sleep(0.05)
        # The name is in no DNS: the client connects to the address and asks for the name.
        transport = httpx.HTTPTransport(verify=ssl.create_default_context(cafile=str(certificate)))
        with httpx.Client(
            base_url=f"https://127.0.0.1:{tls}", transport=transport, headers={"Host": NAME}, timeout=60
        ) as client:
            yield Site(f"http://127.0.0.1:{plain}", client)
    finally:
        nginx.terminate()
        nginx.wait(30)


def test_the_api_is_there_over_tls(site: Site) -> None:
    models = site.client.get("/v1/models", extensions=SNI).json()["data"]
    assert MODEL in {model["id"] for model in models}


def test_plain_http_is_sent_to_https(site: Site) -> None:
    answer = httpx.get(f"{site.http}/v1/models", headers={"Host": NAME}, follow_redirects=False)
    assert answer.status_code == 301
    assert answer.headers["location"] == f"https://{NAME}/v1/models"


def test_a_file_that_is_larger_than_nginx_takes_by_itself_is_taken(site: Site) -> None:
    row = b'{"messages": [{"role": "user", "content": "' + b"a" * MB + b'"}]}\n'
    answer = site.client.post(
        "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("rows.jsonl", row * 20)}, extensions=SNI
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["bytes"] == 20 * len(row)


def test_an_error_of_the_server_comes_through_as_it_is(site: Site) -> None:
    answer = site.client.get("/v1/fine_tuning/jobs/ftjob-none", extensions=SNI)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "fine_tune_not_found")


def test_an_event_is_passed_on_while_the_stream_goes_on(site: Site, server: Live, tmp_path: Path) -> None:
    with serving(ChaosServer(default=ok(delay_s=0.5))) as tools:
        files = upload(server.client(), tmp_path)
        work = method(tools.url, hyperparameters={"max_steps": 100})
        job = server.client().fine_tuning.jobs.create(model=MODEL, training_file=files["train"], method=work)
        path = f"/v1/fine_tuning/jobs/{job.id}/events?stream=true"
        with site.client.stream("GET", path, extensions=SNI) as answer:
            lines = (line for line in answer.iter_lines() if line)
            assert next(lines).startswith("data: {")
            assert server.client().fine_tuning.jobs.cancel(job.id).id == job.id
            assert list(lines)[-1] == "data: [DONE]"


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
