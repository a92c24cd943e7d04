"""All state of a project: keys, artefacts, lease, frozen configs."""
