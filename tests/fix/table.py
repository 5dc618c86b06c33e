"""The table of rules in ``docs/fix.md``, made from the results of the proof."""

from collections import defaultdict

from async_guard.advice import RULES

START, END = "<!-- made by tests/fix/test_proof.py -->\n", "<!-- end -->"


def table(text, patch):
    """Return *text* with the table of the patch between its marks."""
    before, rest = text.split(START)
    return f"{before}{START}\n{''.join(_rows(patch))}\n{END}{rest.split(END, 1)[1]}"


def _rows(patch):
    fixed, refused = defaultdict(set), defaultdict(set)
    for each in patch.results:
        if each.is_fixed:
            fixed[each.rule].add(each.place)
        else:
            refused[each.rule].add(each.refusal)
    yield "| rule | title | fixed | refused, because |\n| --- | --- | ---: | --- |\n"
    for rule in sorted(RULES, key=lambda rule: rule.id):
        count, reasons = len(fixed[rule.id]), "<br>".join(sorted(refused[rule.id]))
        link = f"[{rule.id}](rules/{rule.id}.md)"
        yield f"| {link} | {rule.title} | {count} | {reasons} |\n"
