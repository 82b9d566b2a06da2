"""${message}"""

from storage.schema_steps import run_steps

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_steps(revision, [])


def downgrade() -> None:
    run_steps(revision, [])
