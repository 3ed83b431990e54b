"""Why a plan is as it is, and how sure it is."""
