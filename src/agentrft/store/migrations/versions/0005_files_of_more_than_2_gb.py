"""Files of more than 2 GB: PostgreSQL's integers end there."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for table in ("files", "uploads", "upload_parts"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.alter_column("bytes", existing_type=sa.Integer(), type_=sa.BigInteger(), existing_nullable=False)
