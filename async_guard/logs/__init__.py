"""
Reads the log back: bytes to events, events to problems, problems to a report.

Nothing here needs Django's settings or the project, and nothing here runs beside the guard: the
core imports none of it.
"""
