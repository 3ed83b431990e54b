"""Tables compared with each other and made of each other."""
