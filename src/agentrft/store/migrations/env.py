"""What Alembic runs for each of its commands: on the connection that it was given, in the transaction that is open."""

from alembic import context

from agentrft.store import tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables.metadata,
    # SQLite cannot change a column: Alembic copies the table.
    render_as_batch=True,
)
context.run_migrations()
