"""Everything once on a GPU, in one command of at most ten minutes: right, how fast, in how much memory, a whole job.

`scripts/gpu_check.sh` starts it. Each part is a process of its own (`worker`), so that none takes another down; what a
part found is on disk after each finding, so that one that is ended still tells what it had.
"""
