"""vLLM servers in a Ray cluster: an actor has each of them, with GPUs of its own, and gives it the policy's weights.

The job's process keeps watch over them as over one of its own (`engine/vllm/keeper.py`); `host.py` is its side of an
actor, `actor.py` the other. Ray is imported where a server is started.
"""

from agentrft.cluster.engines.actor import EngineSetup
from agentrft.cluster.engines.host import RayHost
from agentrft.cluster.engines.shipments import Shipments

__all__ = ["EngineSetup", "RayHost", "Shipments"]
