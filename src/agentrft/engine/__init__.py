"""Token generation from the current policy: token ids in, sampled ids with their log-probabilities out.

`EmbeddedEngine` runs in the job's own process on the learner's weights; a rollout holds one `Session` of it. It is in
`embedded`, imported by itself because it needs torch: who reads rollouts needs none.
"""

from agentrft.engine.base import Engine, EngineFailure, Generation, Sampling, Session

__all__ = ["Engine", "EngineFailure", "Generation", "Sampling", "Session"]
