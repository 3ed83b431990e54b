"""What goes in and comes out: profiles, requests, allocations, and how each is checked."""
