"""The address that a server says is one that takes connections."""

import socket

from agentrft.server.serve import _listen


def test_who_connects_before_the_start_is_done_waits_and_is_not_refused() -> None:
    with _listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname(), timeout=5) as early:
        assert early.getpeername() == listening.getsockname()
