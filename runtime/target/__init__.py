"""The cloud's end: one target model, many sessions, one pass after another."""
