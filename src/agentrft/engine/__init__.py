"""Token generation from the current policy: token ids in, sampled ids with their log-probabilities out.

`EmbeddedEngine` runs in the job's own process on the learner's weights; a rollout holds one `Session` of it.
"""

from agentrft.engine.base import Engine, EngineFailure, Generation, Sampling, Session
from agentrft.engine.embedded import EmbeddedEngine, EngineLimits
from agentrft.engine.kv_cache import bytes_per_slot

__all__ = [
    "EmbeddedEngine",
    "Engine",
    "EngineFailure",
    "EngineLimits",
    "Generation",
    "Sampling",
    "Session",
    "bytes_per_slot",
]
