"""The landing zone: layout, commit, run log, gc, and the target that writes it."""
