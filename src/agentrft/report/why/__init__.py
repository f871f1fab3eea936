"""Why a policy changed: what its rollouts do, found in the rollouts themselves, and what of it the updates paid for.

`facts.py` makes of each rollout a flat record with the behaviours that it shows; `evidence.py` adds them up over the
steps of a job; `findings.py` says which of them the updates reinforced or unlearned, and which look like a short cut;
`crowding.py` says what a habit took the place of.
Nothing here needs torch.
"""

from agentrft.report.why.behaviour import Behaviour
from agentrft.report.why.facts import RolloutFacts, StepFacts, facts_of
from agentrft.report.why.finding import Finding, Findings
from agentrft.report.why.findings import find

__all__ = ["Behaviour", "Finding", "Findings", "RolloutFacts", "StepFacts", "facts_of", "find"]
