"""The staleness gate: what may begin, and how old that can become."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from agentrft.job.staleness_gate import StalenessGate

SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=8)


def gate_of(sizes: list[int], eta: int, concurrency: int) -> StalenessGate:
    return StalenessGate(eta, concurrency, lambda step: sum(sizes[:step]), last_step=len(sizes))


@given(sizes=SIZES, eta=st.integers(0, 4), concurrency=st.integers(1, 6), choices=st.lists(st.booleans(), max_size=200))
def test_groups_taken_in_the_order_of_their_beginning_are_never_older_than_eta(
    sizes: list[int], eta: int, concurrency: int, choices: list[bool]
) -> None:
    gate = gate_of(sizes, eta, concurrency)
    version, running, finished, begun = 0, deque[int](), deque[int](), 0
    ages: list[int] = []
    # Then whatever is left runs to its end.
    for ends_one in [*choices, *[True] * (2 * sum(sizes) + len(sizes))]:
        capacity = gate.capacity(version=version, running=len(running), accepted=sum(sizes[:version]) + len(finished))
        running.extend([version] * capacity)
        begun += capacity
        assert len(running) <= concurrency
        if ends_one and running:
            finished.append(running.popleft())
        elif version < len(sizes) and len(finished) >= sizes[version]:
            ages += [version - finished.popleft() for _ in range(sizes[version])]
            version += 1
    assert version == len(sizes), "nothing ever waits for what may not begin"
    assert begun == sum(sizes) and not running and not finished, "nothing is begun that no step takes"
    assert max(ages) <= eta


@given(sizes=SIZES, concurrency=st.integers(1, 6))
def test_with_an_eta_of_nothing_only_the_groups_of_the_next_step_begin(sizes: list[int], concurrency: int) -> None:
    gate = gate_of(sizes, 0, concurrency)
    for version, size in enumerate(sizes):
        taken = sum(sizes[:version])
        assert gate.capacity(version=version, running=0, accepted=taken) == min(size, concurrency)
        assert gate.capacity(version=version, running=0, accepted=taken + size) == 0
    assert gate.capacity(version=len(sizes), running=0, accepted=sum(sizes)) == 0


@given(
    version=st.integers(0, 9), eta=st.integers(0, 4), batch=st.integers(1, 9), concurrency=st.integers(1, 99),
    running=st.integers(0, 99), accepted=st.integers(0, 99),
)  # fmt: skip
def test_with_steps_of_one_size_it_is_the_rule_of_the_paper(
    version: int, eta: int, batch: int, concurrency: int, running: int, accepted: int
) -> None:
    gate = StalenessGate(eta, concurrency, lambda step: step * batch, last_step=100)
    rule = min(concurrency - running, (eta + version + 1) * batch - (accepted + running))
    assert gate.capacity(version=version, running=running, accepted=accepted) == max(0, rule)


def test_a_group_that_was_dropped_lets_another_begin() -> None:
    gate = gate_of([2, 2], 1, 8)
    assert gate.capacity(version=0, running=1, accepted=3) == 0
    assert gate.capacity(version=0, running=1, accepted=2) == 1
