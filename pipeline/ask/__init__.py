"""From score files to a query: what is asked, and why."""
