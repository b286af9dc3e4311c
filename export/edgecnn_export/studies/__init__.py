"""Studies: many trainings that together answer one question, in child processes, resumable after any interruption."""
