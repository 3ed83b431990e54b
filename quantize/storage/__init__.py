"""Files that appear whole or not at all, and records that are checked when read."""
