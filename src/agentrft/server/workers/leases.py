"""How long a worker has a job for itself, and what it and the scheduler know of each other's patience."""

LEASE_S = 10.0
# How often a worker looks what is wished for, and whether its job is still its own.
HEARTBEAT_S = 1.0
# How old it lets its lease become. Each time that it is prolonged is a commit, and all who poll are answered anew.
RENEW_S = 3.0
# A stop ends at the next safe point. An update of a large model may be far from one; killed, it loses nothing.
STOP_GRACE_S = 6.0
# Training yields to the answers of the API.
NICE = 5
# The exit code of a worker whose job is another's.
LOST = 75
