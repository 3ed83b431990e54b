"""What a connection may cost before a request has arrived: bytes of headers, seconds, one of a limited number."""
