"""Work by rank: as even as whole pieces of it allow."""

from collections.abc import Sequence


def shared_out(costs: Sequence[float], loads: Sequence[float]) -> list[list[int]]:
    """Which pieces of work each rank gets: every piece exactly one rank's.

    The most expensive piece first, each to the rank with the least so far (Graham 1969, "Bounds on multiprocessing
    timing anomalies", doi:10.1137/0117039). From ranks without work, none then has more than the mean plus
    (1 - 1/ranks) of the most expensive piece, nor more than 4/3 - 1/(3 ranks) of the least that is possible.

    Args:
        costs: of each piece, in any unit, not negative.
        loads: of each rank, what it has to do already, in the same unit.

    Returns:
        the places in `costs` of each rank's pieces, in ascending order.
    """
    so_far = list(loads)
    shares: list[list[int]] = [[] for _ in loads]
    for place in sorted(range(len(costs)), key=lambda place: (-costs[place], place)):
        rank = so_far.index(min(so_far))
        shares[rank].append(place)
        so_far[rank] += costs[place]
    return [sorted(share) for share in shares]
