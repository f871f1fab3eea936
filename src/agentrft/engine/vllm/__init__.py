"""vLLM as the engine: servers of their own, reached over HTTP, which take token ids and give token ids."""

from agentrft.engine.vllm.client import Client
from agentrft.engine.vllm.engine import VllmEngine, VllmSession
from agentrft.engine.vllm.host import Host, LocalHost, NotBegunError
from agentrft.engine.vllm.process import ServerProcess
from agentrft.engine.vllm.server import Server

__all__ = ["Client", "Host", "LocalHost", "NotBegunError", "Server", "ServerProcess", "VllmEngine", "VllmSession"]
