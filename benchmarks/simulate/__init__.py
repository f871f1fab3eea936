"""A whole job in simulated time: the code that runs in production, against servers, tools and a learner that are not.

Real are the groups that run ahead, the staleness gate, the draw, the rollout loop, the tools with their limiter, their
breaker and their retries, the engine that speaks to vLLM servers, the grader and the store; `clock.py` replaces their
clock, and what they compute takes its time on it. `python -m benchmarks.simulate` draws docs/images/scale.png.
"""
