"""What a policy has learned: its windows as maps, which features it heeds, a small tree that does nearly the same."""
