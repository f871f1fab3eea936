"""Who may use the server, and which projects a checkpoint."""

import hashlib
import time

from sqlalchemy import and_, func, select

from agentrft.server.records.base import RecordsBase, new_id
from agentrft.server.records.rows import KeyRow, PermissionRow
from agentrft.store import tables as t

KEY_PREFIX = "sk-agentrft-"


class AccessRecords(RecordsBase):
    def create_key(self, name: str) -> tuple[KeyRow, str]:
        """A new key; the second value is shown once and stored nowhere."""
        key = new_id(KEY_PREFIX, 40)
        row = KeyRow(new_id("key_", 12), name, time.time(), None)
        self._insert(t.api_keys, {**vars(row), "digest": _digest(key)})
        return row, key

    def keys(self) -> list[KeyRow]:
        return self._all(t.api_keys, KeyRow)

    def revoke_key(self, key_id: str) -> bool:
        where = and_(t.api_keys.c.key_id == key_id, t.api_keys.c.revoked_at.is_(None))
        return self._change(t.api_keys, where, revoked_at=time.time()) == 1

    def is_valid_key(self, key: str) -> bool:
        where = and_(t.api_keys.c.digest == _digest(key), t.api_keys.c.revoked_at.is_(None))
        with self._database.read() as connection:
            return connection.execute(select(func.count()).select_from(t.api_keys).where(where)).scalar_one() == 1

    def has_keys(self) -> bool:
        """Whether there is a key that opens something."""
        return any(key.revoked_at is None for key in self.keys())

    def had_keys(self) -> bool:
        """Whether a key was ever made: revoking the last one must not open the server to everybody."""
        with self._database.read() as connection:
            return connection.execute(select(func.count()).select_from(t.api_keys)).scalar_one() > 0

    # --- permissions

    def add_permission(self, checkpoint: str, project_id: str) -> PermissionRow:
        """A new one, or the one that is there."""
        where = and_(t.permissions.c.checkpoint == checkpoint, t.permissions.c.project_id == project_id)
        found = self._one(t.permissions, PermissionRow, where)
        if found is None:
            found = PermissionRow(new_id("cp_"), checkpoint, project_id, time.time())
            self._insert(t.permissions, vars(found))
        return found

    def permissions(self, checkpoint: str) -> list[PermissionRow]:
        """Newest first."""
        return self._all(t.permissions, PermissionRow, t.permissions.c.checkpoint == checkpoint)

    def delete_permission(self, checkpoint: str, permission_id: str) -> bool:
        where = and_(t.permissions.c.checkpoint == checkpoint, t.permissions.c.permission_id == permission_id)
        return self._delete(t.permissions, where) == 1


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
