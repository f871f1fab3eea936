"""What a job takes before it starts: memory of each device, time of a step, money; and what it took, beside that.

All of it follows from a model's configuration, the job and a device's rates; no weights are loaded. `plan.py` puts the
parts together, and `splits.py` finds what a number of GPUs is best used for.
"""
