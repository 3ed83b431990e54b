"""Files that are written from a running service: the OpenAPI document, and the answers that it shows."""
