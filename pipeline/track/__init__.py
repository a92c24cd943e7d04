"""MLflow: the tracking session, its database and its names."""
