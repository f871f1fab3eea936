"""Writes the file of a schema change: what `store/tables.py` has, and the revisions so far do not make.

make revision WHAT="files have an owner"
"""

import sys

from alembic import command
from sqlalchemy import create_engine

from agentrft.store.migrations import configuration, revisions, upgrade

with create_engine("sqlite://").begin() as connection:
    upgrade(connection)
    number = f"{int(revisions()[-1]) + 1:04d}"
    command.revision(configuration(connection), message=sys.argv[1], autogenerate=True, rev_id=number)
