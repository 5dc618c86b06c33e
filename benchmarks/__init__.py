"""What async_guard costs, measured beside the bare program and other tools of its kind."""
