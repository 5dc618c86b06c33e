"""One file per format: ``render(report)`` returns its text."""
