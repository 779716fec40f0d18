"""A rehearsal to live in: started, entered and ended from outside."""
