"""Studies: one question each, asked of the simulator by a sweep; a table, figures and a page come out."""
