"""Who runs which run of an eval. A run whose lease was let go, or has run out, is taken by another worker."""

import time
from typing import Any

from sqlalchemy import Connection, and_, or_, select, update

from agentrft.server.records.base import RecordsBase
from agentrft.server.records.evals import GOING_ON
from agentrft.store import tables as t

RUN = t.eval_runs.c


class EvalLeases(RecordsBase):
    def waiting(self) -> list[str]:
        """Runs that could be worked on now, the oldest first."""
        where = and_(RUN.status.in_(GOING_ON), _is_free(time.time()))
        with self._database.read() as connection:
            return list(connection.execute(select(RUN.run_id).where(where).order_by(RUN.number)).scalars())

    def acquire(self, run_id: str, owner: str, seconds: float) -> bool:
        """Take a run's lease, if nobody has it and it is still to be run; it is in progress then."""
        now = time.time()
        free = or_(_is_free(now), RUN.lease_owner == owner)
        where = and_(RUN.run_id == run_id, RUN.status.in_(GOING_ON), free)
        values = {"status": "in_progress", "lease_owner": owner, "lease_until": now + seconds}
        return self._change(t.eval_runs, where, **values) == 1

    def renew(self, run_id: str, owner: str, seconds: float) -> tuple[bool, str | None]:
        """Prolong one's lease. Whether it is still one's own, and "cancel" where the run is to end."""
        where = and_(RUN.run_id == run_id, RUN.lease_owner == owner)
        with self._database.write() as connection:
            until = time.time() + seconds
            is_mine = connection.execute(update(t.eval_runs).where(where).values(lease_until=until)).rowcount == 1
            return is_mine, _wish(connection, run_id)

    def held(self, run_id: str, owner: str) -> tuple[bool, str | None]:
        """As `renew`, without writing anything."""
        with self._database.read() as connection:
            holder = connection.execute(select(RUN.lease_owner).where(RUN.run_id == run_id)).scalar()
            return holder == owner, _wish(connection, run_id)

    def holder(self, run_id: str) -> str | None:
        """Who has a run's lease, or had it last without giving it back."""
        with self._database.read() as connection:
            return connection.execute(select(RUN.lease_owner).where(RUN.run_id == run_id)).scalar()

    def release(self, run_id: str, owner: str) -> None:
        where = and_(RUN.run_id == run_id, RUN.lease_owner == owner)
        self._change(t.eval_runs, where, lease_owner=None, lease_until=None)

    def wish_of(self, run_id: str) -> str | None:
        with self._database.read() as connection:
            return _wish(connection, run_id)

    def count_crash(self, run_id: str) -> int:
        """How often a run's worker died, this time included."""
        with self._database.write() as connection:
            connection.execute(update(t.eval_runs).where(RUN.run_id == run_id).values(crashes=RUN.crashes + 1))
            return connection.execute(select(RUN.crashes).where(RUN.run_id == run_id)).scalar() or 0


def _wish(connection: Connection, run_id: str) -> str | None:
    """A run that was deleted is to end, too."""
    status = connection.execute(select(RUN.status).where(RUN.run_id == run_id)).scalar()
    return None if status in GOING_ON else "cancel"


def _is_free(now: float) -> Any:
    return or_(RUN.lease_until.is_(None), RUN.lease_until < now)
