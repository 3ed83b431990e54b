"""The table of jobs is the queue: whoever has time looks for the next one by its state."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the index."""
    op.create_index("ix_jobs_state", "jobs", ["state"])


def downgrade() -> None:
    """Drop the index."""
    op.drop_index("ix_jobs_state", "jobs")
