"""
The load proof: the example project, unmended, under uvicorn and on PostgreSQL, with the retry on.

``python -m tests.load`` sends the operations of ``example_project/demo.py`` in great number, and
looks at what was answered, at what is in the database, and at the processes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "example_project"))
