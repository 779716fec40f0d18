"""The sandbox of a run: namespaces, control groups, processes, waiting."""
