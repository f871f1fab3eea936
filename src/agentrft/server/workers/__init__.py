"""Where jobs run: a scheduler starts a worker process for each, which holds the job's lease while it runs it."""
