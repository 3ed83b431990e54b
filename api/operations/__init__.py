"""What the routes compute: a body in, a result out, nothing of HTTP."""
