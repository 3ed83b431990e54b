"""What a connection may cost before a request has arrived: bytes of headers, seconds, a place among all."""
