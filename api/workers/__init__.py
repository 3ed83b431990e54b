"""Work that takes processor time: processes of its own, killed with their children when they overrun."""
