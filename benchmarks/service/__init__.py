"""What the HTTP service takes, next to an application that only parses and validates the same bodies."""
