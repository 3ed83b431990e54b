"""Long work: solves that outlast their request, kept in the database and finished by whichever service lives."""

from api.jobs.jobs import Jobs
from api.jobs.runs import Run

__all__ = ["Jobs", "Run"]
