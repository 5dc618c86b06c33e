"""
Runs Django's tests in an event loop and says what did not pass.

    make django-suite                                            all of it, on SQLite
    make django-suite ARGS="--database postgres basic transactions"
    make django-suite ARGS="--ci"                                what CI runs, at most 10 minutes
    make django-suite ARGS="--plain"                             as Django runs them, to compare
"""

import argparse
import sys

import django

from tests.django_suite.record import GUARD, ROOT, Results, Suite
from tests.django_suite.report import Report, label_of, read_list
from tests.django_suite.source import find_tests, list_modules

CI = {
    "sqlite": """
        basic one_to_one many_to_one get_or_create m2m_regress defer transactions transaction_hooks
        delete bulk_create aggregation queries select_related prefetch_related raw_query
        generic_relations update m2m_through expressions model_forms timezones async backends
        contenttypes_tests handlers lookup multiple_database sessions_tests signals
    """,
    "postgres": """
        basic transactions transaction_hooks select_for_update bulk_create get_or_create update
        prefetch_related postgres_tests backends
    """,
}


def main() -> int:
    arguments = parse()
    tests, database = find_tests(), arguments.database
    labels = CI[database].split() if arguments.ci else arguments.labels or list_modules(tests)
    folder = ROOT / "build" / "django_suite"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{database}-{django.__version__}{'-plain' if arguments.plain else ''}"
    log = folder / f"{name}.log"
    log.unlink(missing_ok=True)
    report = compare(Suite(tests, database, log), labels, plain=arguments.plain)
    text = "\n".join(report.lines())
    (folder / f"{name}.txt").write_text(text + "\n", "utf-8")
    print(f"\nDjango {django.__version__} on {database}\n{text}")
    return 1 if report.unlisted else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make django-suite")
    parser.add_argument("--database", choices=CI, default="sqlite")
    parser.add_argument("--ci", action="store_true", help="a part that takes minutes")
    parser.add_argument("--plain", action="store_true", help="without an event loop, to compare")
    parser.add_argument("labels", nargs="*", help="of tests, as Django takes them; default: all")
    return parser.parse_args()


def compare(suite: Suite, labels: list[str], *, plain: bool) -> Report:
    """Run the tests, and those that failed once more plainly."""
    results = suite.run(labels, plain=plain)
    if plain:
        return Report(results, results, [])
    failed = sorted({label_of(each) for each in results.failed if each != GUARD})
    control = suite.run(failed, plain=True) if failed else Results()
    return Report(results, control, read_list(suite.database, django.__version__))


sys.exit(main())
