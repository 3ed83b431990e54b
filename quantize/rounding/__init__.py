"""How codes are chosen: to the nearest, with searched scales, with compensated errors."""
