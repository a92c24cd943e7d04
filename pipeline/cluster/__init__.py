"""Ray: joining a cluster, laying work on its nodes, faults in sentences."""
