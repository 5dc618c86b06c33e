"""Logs that are long, odd or repeat themselves: what is kept of them, and what is told."""

import json
from itertools import pairwise

import pytest

from async_guard import cli
from async_guard.logs import reading
from async_guard.logs.tally import MOST_BUCKETS, NARROWEST_S
from tests.logs.making import FOREIGN, counts, event, line, nested, read_bytes, summary
from tests.logs.test_envelopes import docker


def lines(*texts):
    return "".join(f"{text}\n" for text in texts).encode()


def at(day, minute=0, **changed):
    """Return a hit of a minute of January 2026."""
    when = f"2026-01-{day:02}T{minute // 60:02}:{minute % 60:02}:00Z"
    return json.dumps(event(1, **changed) | {"timestamp": when})


def made(folder, data, *arguments, capsys):
    """Return what the command makes of a log, which must be fine."""
    path = folder / "app.log"
    path.write_bytes(data)
    command, *more = arguments
    assert cli.main([command, *more, str(path)]) == 0
    return capsys.readouterr()


def test_weeks(tmp_path):
    """
    Over weeks the trend has wider steps, and every hit is still in one of them.
    """
    days = [at(day, count=day) for day in range(1, 29)]
    minutes = [at(29, minute) for minute in range(0, 1440, 3)]

    result = read_bytes(tmp_path, lines(*days, *minutes))

    [tally] = result.tallies
    points = tally.trend.points()
    times = [when for when, _ in points]
    assert tally.trend.width > NARROWEST_S
    assert len(points) <= 4 * MOST_BUCKETS
    assert len({after - before for before, after in pairwise(times)}) == 1
    assert sum(hits for _, hits in points) == tally.count == sum(range(1, 29)) + len(minutes)


def test_weeks_in_several_parts(tmp_path):
    """
    Parts of a log that were read on their own have one trend, whatever the steps of each.
    """
    data = {
        "short": lines(at(28, 1), at(28, 2)),
        "long": lines(*(at(day, hour * 60) for day in range(1, 29) for hour in range(0, 24, 6))),
    }
    parts = {}
    for name, each in data.items():
        (tmp_path / name).mkdir()
        parts[name] = read_bytes(tmp_path / name, each).tallies

    parts["short"].add(parts["long"])

    [tally], [long] = parts["short"], parts["long"]
    assert tally.trend.width == long.trend.width
    assert sum(hits for _, hits in tally.trend.points()) == 2 + 28 * 4


def test_repeated_hits(tmp_path, monkeypatch, capsys):
    """
    Of the hits that were read last, none counts twice; an id that is none is never a repetition.
    """
    monkeypatch.setattr(reading, "REMEMBERED_IDS", 2)
    odd = json.dumps(event(4) | {"async_guard.hit_id": 4})
    data = lines(line(1), line(1), line(2), line(3), line(1), odd, odd)

    out = made(tmp_path, data, "report", "--unique", "--format", "json", capsys=capsys).out

    found = {int(each["fingerprint"], 16): each["count"] for each in json.loads(out)["problems"]}
    assert found == {1: 2, 2: 1, 3: 1, 4: 2}
    text = made(tmp_path, data, "report", "--unique", capsys=capsys).out
    assert "1 hit left out: their id was read before." in " ".join(text.split())


def test_no_room(tmp_path, capsys):
    """
    Hits that the guard had no room for are told, without a problem of their own.
    """
    found = json.loads(summary(1, 7))
    del found["async_guard.fingerprint"]

    out = made(tmp_path, lines(json.dumps(found)), "report", capsys=capsys).out

    assert (
        "7 hits without a fingerprint: the guard had no room for more (MAX_FINGERPRINTS)."
    ) in " ".join(out.split())


def test_nothing_found(tmp_path, capsys):
    """
    A log without a hit has no problems, and says so on a terminal, too.
    """
    assert made(tmp_path, lines(FOREIGN), "report", capsys=capsys).out.startswith("No problems")


@pytest.mark.parametrize("command", ["explain", "baseline", "report", "export"])
def test_lost_events_are_told(command, tmp_path, capsys):
    """
    Whatever is made of a log, what was lost of it is told.
    """
    data = lines(line(1)) + line(2)[:700].encode()
    arguments = {
        "explain": ("explain", "0"),
        "baseline": ("baseline", "write", "-o", str(tmp_path / "base.json")),
        "report": ("report", "--format", "json"),
        "export": ("export", "--to", "jsonl"),
    }[command]

    said = made(tmp_path, data, *arguments, capsys=capsys)

    assert "an event that was cut" in said.out + said.err


def test_objects_in_objects(tmp_path):
    """
    What is nested deeper than any log is read as far as that goes, and nothing breaks.
    """
    deep = text = line(2)
    for _ in range(40):
        deep = json.dumps({"log": {"log": json.loads(deep)}})
    for _ in range(9):
        text = json.dumps({"message": text})

    result = read_bytes(tmp_path, lines(line(1), deep, text, json.dumps(nested(event(3)))))

    assert counts(result) == {1: 1, 3: 1}


def test_event_without_a_count(tmp_path):
    """
    A summary that does not say how many it stands for is lost, and told.
    """
    found = json.loads(summary(1))
    del found["async_guard.count"]

    result = read_bytes(tmp_path, lines(json.dumps(found)))

    assert [each.reason for each in result.accounts.first_lost] == ["an event without a count"]


def test_pieces_whose_rest_never_came(tmp_path):
    """
    Where a container runtime stopped in the middle of an event, the next one is whole.
    """
    cut, whole = line(1)[:300], line(2)

    result = read_bytes(tmp_path, lines(docker(cut), docker(whole), docker(line(3) + "\n")))

    assert counts(result) == {2: 1, 3: 1}
    assert [each.reason for each in result.accounts.first_lost] == ["an event that was cut"]


def test_printed_object_with_a_damaged_line(tmp_path):
    """
    An object over many lines of which one is damaged is lost, and told; the next one is read.
    """
    printed = [json.dumps([event(number)], indent=2) for number in (1, 2)]
    damaged = printed[0].replace('"async_guard.count": 1', '"async_guard.count": ')

    result = read_bytes(tmp_path, lines(damaged, printed[1]))

    assert counts(result) == {2: 1}
    assert result.accounts.lost == 1
