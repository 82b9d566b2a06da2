"""Runs the schema migrations that Alembic asks for.

storage.schema_upgrade passes the database; the alembic command reads LOOKALIKE_DATABASE_URL.
"""

import os

from alembic import context
from alembic.runtime.migration import MigrationContext

from storage.database import Database
from storage.schema_upgrade import lock_schema
from storage.tables import Base

database = context.config.attributes.get("database") or Database(
    os.environ["LOOKALIKE_DATABASE_URL"]
)

with lock_schema(database) as connection:
    current = MigrationContext.configure(connection).get_current_revision()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        is_new=current is None,
    )
    with context.begin_transaction():
        context.run_migrations()
