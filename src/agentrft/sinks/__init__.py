"""Where the metrics of a job's steps go beside its own record: a short file for each service, and what feeds them.

A sink never stops or slows a job: each has a thread of its own, which reads committed steps from the job's record.
"""

from agentrft.sinks.base import Record, RunFacts, Sink, numbers
from agentrft.sinks.feed import Feed
from agentrft.sinks.opening import new_sink

__all__ = ["Feed", "Record", "RunFacts", "Sink", "new_sink", "numbers"]
