"""Runs the schema migrations that Alembic asks for.

storage.schema_upgrade passes the database; the alembic command reads LOOKALIKE_DATABASE_URL.
"""

import os

from alembic import context

from storage.database import Database
from storage.tables import Base

database = context.config.attributes.get("database") or Database(
    os.environ["LOOKALIKE_DATABASE_URL"]
)

with database.write() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
