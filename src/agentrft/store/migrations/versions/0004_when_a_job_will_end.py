"""when a job will end."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("served_jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("estimated_finish", sa.Float(), nullable=True))
