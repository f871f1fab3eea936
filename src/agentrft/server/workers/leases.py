"""Times, in seconds, that workers and the scheduler agree on.

A worker holds its job's lease, a row in the database that names it and a time until which no other worker may take the
job.
"""

LEASE_S = 10.0
# How often a worker looks for a pause or cancel, and whether it still holds the lease.
HEARTBEAT_S = 1.0
# The age at which a worker renews its lease. Each renewal is a commit, which empties the response cache.
RENEW_S = 3.0
# How long a worker may take to the next safe point before it is killed. Killed, it loses no finished work.
STOP_GRACE_S = 6.0
# Training yields to the answers of the API.
NICE = 5
# The exit code of a worker that lost its lease to another.
LOST = 75
