"""Uploaded files, and files that come in parts."""

import time

from sqlalchemy import and_, delete, select, update

from agentrft.server.records.base import RecordsBase, new_id
from agentrft.server.records.rows import FileRow, UploadRow
from agentrft.store import tables as t


class FileRecords(RecordsBase):
    def add_file(self, file_id: str, filename: str, purpose: str, size: int, expires_at: float | None) -> FileRow:
        row = FileRow(file_id, filename, purpose, size, time.time(), expires_at, "uploaded", None)
        self._insert(t.files, vars(row))
        return row

    def file(self, file_id: str) -> FileRow | None:
        return self._one(t.files, FileRow, t.files.c.file_id == file_id)

    def files(self) -> list[FileRow]:
        """Newest first."""
        return self._all(t.files, FileRow)

    def set_file_status(self, file_id: str, status: str, details: str | None = None) -> None:
        self._change(t.files, t.files.c.file_id == file_id, status=status, status_details=details)

    def delete_file(self, file_id: str) -> None:
        self._delete(t.files, t.files.c.file_id == file_id)

    def expired_files(self, before: float) -> list[str]:
        """Those that expired before a time."""
        query = select(t.files.c.file_id).where(t.files.c.expires_at < before)
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    # --- uploads

    def add_upload(self, filename: str, purpose: str, size: int, seconds: float) -> UploadRow:
        now = time.time()
        row = UploadRow(new_id("upload_"), filename, purpose, size, now, now + seconds, "pending", None)
        self._insert(t.uploads, vars(row))
        return row

    def upload(self, upload_id: str) -> UploadRow | None:
        return self._one(t.uploads, UploadRow, t.uploads.c.upload_id == upload_id)

    def end_upload(self, upload_id: str, status: str, file_id: str | None = None) -> bool:
        """Whether it was still pending."""
        with self._database.write() as connection:
            where = and_(t.uploads.c.upload_id == upload_id, t.uploads.c.status == "pending")
            values = {"status": status, "file_id": file_id}
            return connection.execute(update(t.uploads).where(where).values(**values)).rowcount == 1

    def add_part(self, part_id: str, upload_id: str, size: int) -> float:
        """When it came."""
        now = time.time()
        self._insert(t.upload_parts, {"part_id": part_id, "upload_id": upload_id, "bytes": size, "created_at": now})
        return now

    def parts(self, upload_id: str) -> dict[str, int]:
        """Sizes in bytes, by id."""
        query = select(t.upload_parts.c.part_id, t.upload_parts.c.bytes).where(t.upload_parts.c.upload_id == upload_id)
        with self._database.read() as connection:
            return {part_id: size for part_id, size in connection.execute(query)}

    def expired_uploads(self, before: float) -> list[str]:
        """Those whose time was over before a time, whatever became of them."""
        query = select(t.uploads.c.upload_id).where(t.uploads.c.expires_at < before)
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def delete_upload(self, upload_id: str) -> None:
        """With what is known of its parts."""
        with self._database.write() as connection:
            connection.execute(delete(t.upload_parts).where(t.upload_parts.c.upload_id == upload_id))
            connection.execute(delete(t.uploads).where(t.uploads.c.upload_id == upload_id))

    def pending_parts(self) -> list[str]:
        """Parts of uploads that have not ended."""
        query = select(t.upload_parts.c.part_id).join(t.uploads, t.uploads.c.upload_id == t.upload_parts.c.upload_id)
        with self._database.read() as connection:
            return list(connection.execute(query.where(t.uploads.c.status == "pending")).scalars())
