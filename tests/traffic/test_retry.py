"""The retry budget: how long to wait, and when to give up."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from agentrft.traffic.retry import (
    MAX_BACKOFF_S,
    MAX_RATE_LIMIT_WAITS,
    RATE_LIMIT_DEADLINE_S,
    Fault,
    RetryBudget,
    retry_after_s,
)

RATE_LIMITED = Fault("rate_limited", "", transient=True)


def budget(**changes: float | bool) -> RetryBudget:
    return RetryBudget(**{"retries": 3, "idempotent": True, "backoff_s": 0.5, **changes})


def waits(of: RetryBudget, fault: Fault) -> list[float]:
    found = []
    while (wait_s := of.wait_s(fault)) is not None:
        found.append(wait_s)
    return found


def test_the_backoff_grows_exponentially_under_full_jitter() -> None:
    server_error = Fault("server_error", "", transient=True)
    many = [waits(budget(), server_error) for _ in range(200)]
    assert all(len(one) == 3 for one in many)
    for nth, longest_s in enumerate((0.5, 1.0, 2.0)):
        found = [one[nth] for one in many]
        assert max(found) <= longest_s
        assert max(found) > 0.8 * longest_s and min(found) < 0.2 * longest_s


def test_a_5xx_with_retry_after_is_respected_within_bounds() -> None:
    assert budget().wait_s(Fault("server_error", "", transient=True, retry_after_s=3.0)) == 3.0
    assert budget().wait_s(Fault("server_error", "", transient=True, retry_after_s=1e9)) == MAX_BACKOFF_S


def test_waits_for_429_are_bounded_in_number_and_in_time() -> None:
    assert len(waits(budget(), RATE_LIMITED)) == MAX_RATE_LIMIT_WAITS
    hour = Fault("rate_limited", "", transient=True, retry_after_s=3600.0)
    assert waits(budget(), hour) == [RATE_LIMIT_DEADLINE_S]
    endless = Fault("rate_limited", "", transient=True, retry_after_s=float("inf"))
    assert waits(budget(), endless) == [RATE_LIMIT_DEADLINE_S]


def test_waits_for_429_do_not_use_up_the_retries() -> None:
    used = budget()
    waits(used, RATE_LIMITED)
    assert len(waits(used, Fault("connection", "", transient=True))) == 3


def test_a_fault_that_will_not_pass_is_not_repeated() -> None:
    assert budget().wait_s(Fault("bad_answer", "")) is None


def test_retry_after_is_read_as_seconds_or_as_a_date_and_nonsense_is_ignored() -> None:
    assert retry_after_s(" 7 ") == 7.0
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 -0000") == 0.0
    hour_ahead = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert 3500 < (retry_after_s(hour_ahead) or 0.0) <= 3600
    nonsense = (None, "", "soon", "-1", "nan", "Wed, 21 Oct 2015 07:28:00 +99999999999999")
    assert [retry_after_s(value) for value in nonsense] == [None] * 6
