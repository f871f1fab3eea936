"""Running the server: one process tree, which ends as one."""

import gc
import os
import re
import secrets
import socket
import sys
import threading
from collections.abc import Collection
from types import FrameType

import uvicorn

from agentrft.errors import UserError
from agentrft.graders.own_server import OwnServer
from agentrft.server.app import create_app
from agentrft.server.browser_checks import is_loopback_name
from agentrft.server.private_files import make_private
from agentrft.server.settings import Settings

GRACE_S = 10
# From the signal on: for open answers, then for jobs to stop, then for the models' process.
END_S = 30.0
SWITCH_S = 0.001
BACKLOG = 2048
OWN_ADDRESS = "127.0.0.1"
KEPT = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_.*|TZ|TERM|TMPDIR|PWD|VIRTUAL_ENV|LD_LIBRARY_PATH|PYTHON.*|XDG_.*|OMP_.*|GOMP_.*"
    r"|MKL_.*|OPENBLAS_.*|CUDA_.*|NVIDIA_.*|NCCL_.*|TORCH.*|PYTORCH.*|TRANSFORMERS_.*|HF_.*|HUGGING.*|SSL_.*"
    # Where credentials that expire are read again; not the credentials.
    r"|AWS_ROLE_ARN|AWS_ROLE_SESSION_NAME|AWS_WEB_IDENTITY_TOKEN_FILE|AWS_CONTAINER_.*_(URI|FILE)"
    r"|https?_proxy|no_proxy|HTTPS?_PROXY|NO_PROXY|AGENTRFT_CACHE|COVERAGE_.*"
    # Of integrations and tracing, keys included: a job cannot name them, and sandboxes have no environment.
    r"|WANDB_.*|NETRC|MLFLOW_.*|DATABRICKS_.*|TRACKIO_.*|OTEL_.*"
)


def serve(settings: Settings, *, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; jobs that run are stopped at their next safe point, and go on with the server.

    Raises:
        UserError: an address that others can reach without any key, or the address cannot be had.
    """
    make_private()
    app = create_app(settings)
    withheld = forget_secrets(settings.allowed_env)
    if not is_loopback_name(host) and not app.state.context.records.has_keys():
        raise UserError(
            f"--host {host}: others could reach it, and there is no API key.",
            "Make one with `agentrft keys create NAME`, or bind to 127.0.0.1.",
        )
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=75,
        lifespan="on",
        proxy_headers=False,
    )
    listening, for_judges = _listen(host, port), _listen(OWN_ADDRESS, 0)
    app.state.context.own_server = reached_by(for_judges, withheld)
    print(f"agentrft serves http://{host}:{listening.getsockname()[1]}/v1", flush=True)
    # What is there now stays: looking through it for garbage would hold up all requests, a tenth of a second each time.
    gc.collect()
    gc.freeze()
    # A thread that computes gives the interpreter back to the event loop after so long.
    sys.setswitchinterval(SWITCH_S)
    _Server(config).run(sockets=[listening, for_judges])


class _Server(uvicorn.Server):
    """Ends within a bounded time of the first signal, whatever still runs: children see it, and end by themselves."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            ending = threading.Timer(END_S, os._exit, (1,))
            ending.daemon = True
            ending.start()
        super().handle_exit(sig, frame)


def reached_by(listening: socket.socket, withheld: Collection[str]) -> OwnServer:
    """How processes of the server reach it: by a socket of their own, wherever others reach it, and a new token."""
    url = f"http://{OWN_ADDRESS}:{listening.getsockname()[1]}/v1"
    return OwnServer(url, secrets.token_urlsafe(32), tuple(withheld))


def forget_secrets(allowed: Collection[str]) -> list[str]:
    """Take out of the environment what jobs could ask for and may not have; what programs need to run stays.

    Returns the names of what was taken out.
    """
    withheld = [name for name in os.environ if name not in allowed and not KEPT.fullmatch(name)]
    for name in withheld:
        del os.environ[name]
    return withheld


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named, asyncio turns Nagle's algorithm off; else each answer may wait 40 ms for an ACK.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        # Whoever reads the address connects at once, and waits until the start is done; else he would be refused.
        listening.listen(BACKLOG)
    except OSError as error:
        raise UserError(f"{host}:{port}: {error.strerror}.", "Choose another --port or --host.") from error
    return listening
