"""From a profile and a request to a certified allocation."""
