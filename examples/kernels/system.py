"""Kernels, to be run and measured beside the other systems."""

from examples.common.system import Measure, System
from examples.kernels.make_data import write_data
from examples.kernels.measures import measures

SYSTEM = System(
    name="kernels",
    key="kernels",
    title="Kernels: a C function that is right and faster than PyTorch",
    write_data=write_data,
    measures=measures,
    told=(
        Measure("faster", "correct and faster than PyTorch", "higher"),
        Measure("correct", "correct", "higher"),
        Measure("compiled", "compiled", "higher"),
        Measure("speedup", "speedup where correct", "higher", "median"),
        Measure("tripped", "caught by a defence", "lower"),
        Measure("turns", "turns", "lower"),
        Measure("calls", "tool calls", "lower"),
        Measure("tokens", "sampled tokens", "lower"),
    ),
)
