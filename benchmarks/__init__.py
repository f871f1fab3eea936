"""Us beside what a user would pick instead, in one run on one machine, such as `make bench-learner`.

Every side is a worker of its own environment that loads once and then repeats on demand (`protocol`); `harness` takes
them in turn.
"""
