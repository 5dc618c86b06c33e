"""Damaged input: what can be recovered is, and what is lost is told."""

import bz2
import gzip
import json
import lzma
import time

import pytest

from async_guard.logs.report import summed_up
from tests.logs.making import FOREIGN, counts, event, line, read_bytes, summary
from tests.logs.test_envelopes import readable


def lines(*texts: str) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def told(result) -> tuple[int, int, int]:
    accounts = result.accounts
    return accounts.recovered, accounts.lost, accounts.cut


def test_counts_are_added_up(tmp_path):
    """
    The count is the sum of the counts of hits and summaries, never the number of lines.
    """
    result = read_bytes(
        tmp_path, lines(line(1), FOREIGN, line(1, count=3), summary(1, 40), line(2))
    )

    assert counts(result) == {1: 44, 2: 1}
    assert told(result) == (0, 0, 0)
    assert (result.accounts.lines, result.accounts.foreign) == (5, 1)


@pytest.mark.parametrize("cut", range(20, 120, 7))
def test_truncated_early(tmp_path, cut):
    """
    A last line that was cut before it says anything is told, and nothing else is lost.
    """
    result = read_bytes(tmp_path, lines(line(1)) + line(2)[:cut].encode())

    assert counts(result) == {1: 1}
    assert result.accounts.lost + result.accounts.cut == 1
    assert result.accounts.first_lost[0].offset == len(lines(line(1)))


def test_truncated_late(tmp_path):
    """
    A line that was cut after the count says enough.
    """
    text = line(2)
    result = read_bytes(
        tmp_path, lines(line(1)) + text[: text.index('"async_guard.frames"')].encode()
    )

    assert counts(result) == {1: 1, 2: 1}
    assert told(result) == (1, 0, 0)


def test_no_end_of_line(tmp_path):
    """
    A last line without its end is a line like any other.
    """
    result = read_bytes(tmp_path, lines(line(1)) + line(2).encode())

    assert counts(result) == {1: 1, 2: 1}
    assert told(result) == (0, 0, 0)


def test_two_on_one_line(tmp_path):
    """
    Events on one line, without anything between them, are all read.
    """
    result = read_bytes(tmp_path, lines(line(1) + line(2) + FOREIGN + line(3), line(4)))

    assert counts(result) == {1: 1, 2: 1, 3: 1, 4: 1}
    assert told(result) == (3, 0, 0)


@pytest.mark.parametrize("cut", [1, 30, 70, 78, 90, 200, 500, 1200, 2300, -2, -1])
def test_one_within_the_other(tmp_path, cut):
    """
    When a writer comes into the middle of another's line, both events are put together again.
    """
    outer = line(1)
    result = read_bytes(tmp_path, lines(outer[:cut] + line(2), outer[cut:], line(3)))

    assert counts(result) == {1: 1, 2: 1, 3: 1}
    assert result.accounts.lost == 0


@pytest.mark.parametrize("cut", [30, 90, 500, 1500, 2400])
def test_halves_apart(tmp_path, cut):
    """
    Whole lines may stand between the halves of a torn one.
    """
    torn = line(1)
    result = read_bytes(tmp_path, lines(torn[:cut], line(2), FOREIGN, torn[cut:], line(3)))

    assert counts(result) == {1: 1, 2: 1, 3: 1}
    assert result.accounts.lost == 0


def test_part_without_the_rest(tmp_path):
    """
    The end of an event alone is one that is lost.
    """
    text = line(1)
    result = read_bytes(tmp_path, lines(text[900:], line(2)))

    assert counts(result) == {2: 1}
    assert told(result) == (0, 1, 0)
    assert result.accounts.first_lost[0].offset == 0


@pytest.mark.parametrize(
    "damaged",
    [
        line(1).encode().replace(b"UserType", b"User\xff\xfeType"),
        b"\0" * 5000 + line(1).encode(),
        line(1).encode().replace(b"Query.users", b"Query.\0users"),
        line(1).encode().replace(b"users/types.py", b"users\x01types.py"),
        b"garbage }{ \x80\x81 " + line(1).encode(),
        line(1).encode() + b" and more",
        line(1).encode() + b"\x1b[0m",
    ],
)
def test_bad_bytes(tmp_path, damaged):
    """
    Bytes that are no text, or no JSON, do not lose the event around them.
    """
    result = read_bytes(tmp_path, damaged + b"\n" + lines(line(2)))

    assert counts(result) == {1: 1, 2: 1}
    assert result.accounts.lost == 0


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + lines(line(1), line(2)),
        lines(line(1), line(2)).replace(b"\n", b"\r\n"),
        b"\n\n  \n" + lines(line(1), "", "", line(2)) + b"\n\n",
        b"\xff\xfe" + lines(line(1), line(2)).decode().encode("utf-16-le"),
        b"\xfe\xff" + lines(line(1), line(2)).decode().encode("utf-16-be"),
        lines(json.dumps(event(1), indent=None, separators=(",", ":")), line(2)),
        lines(json.dumps(dict(sorted(event(1).items()))), line(2)),
        lines(json.dumps(dict(reversed(event(1).items()))), line(2)),
    ],
)
def test_harmless(tmp_path, data):
    """
    BOM, CRLF, blank lines, UTF-16 and any order of keys are no damage.
    """
    result = read_bytes(tmp_path, data)

    assert counts(result) == {1: 1, 2: 1}
    assert told(result) == (0, 0, 0)


def test_long_lines(tmp_path):
    """
    A line of 20 MB is read like any other, whether it is ours or not.
    """
    long = 20_000_000
    foreign = json.dumps({"event": "big", "body": "x" * long})
    ours = line(1, code__text="y" * long)
    result = read_bytes(tmp_path, lines(foreign, ours, "z" * long, line(2)))

    assert counts(result) == {1: 1, 2: 1}
    assert told(result) == (0, 0, 0)
    assert result.accounts.lines == 4


def test_endless_line(tmp_path, monkeypatch):
    """
    Of a line that never ends only a part is held, and an event at its end is found.
    """
    monkeypatch.setattr("async_guard.logs.scanner.LONGEST", 3 << 20)
    result = read_bytes(tmp_path, b"\0" * (8 << 20) + lines(line(1), line(2)))

    assert counts(result) == {1: 1, 2: 1}


def test_parts_of_an_endless_line(tmp_path, monkeypatch):
    """
    A line of ours that is read in parts counts as so many lines, so that none is foreign.
    """
    monkeypatch.setattr("async_guard.logs.scanner.LONGEST", 3 << 20)
    ours = json.dumps({**event(1), "zz": "z" * (4 << 20) + '"async_guard.count": '})
    result = read_bytes(tmp_path, lines(ours, line(2)))

    accounts = result.accounts
    assert counts(result) == {1: 1, 2: 1}
    assert (accounts.lines, accounts.ours, accounts.foreign) == (3, 3, 0)


@pytest.mark.parametrize(
    ("changed", "count"),
    [
        ({"count": "7"}, 7),
        ({"count": 7.0}, 7),
        ({"count": None}, 1),
        ({"count": -3}, 1),
        ({"count": [1]}, 1),
        ({"count": True}, 1),
        ({"count": 2**63 - 1}, 2**63 - 1),
        ({"count": 2**63}, 1),
        ({"count": 10**30}, 1),
        ({"count": 1e300}, 1),
        ({"count": float("inf")}, 1),
        ({"outcome": ["raised"]}, 1),
        ({"outcome": None}, 1),
        ({"frames": "none"}, 1),
        ({"frames": [1, None, {"function": 3}]}, 1),
        ({"relation": {"a": 1}}, 1),
        ({"code__line__number": "x"}, 1),
        ({"graphql__operation__name": 5}, 1),
        ({"duration_ms": "fast"}, 1),
        ({"rule": "AG999"}, 1),
        ({"rule": None, "advice": None, "code__text": None}, 1),
    ],
)
def test_wrong_types(tmp_path, changed, count):
    """
    A value of a wrong type costs that value, not the hit, and no report a traceback.
    """
    from async_guard.logs.render import as_json, html, markdown, plain, sarif
    from async_guard.logs.render.explanation import explanation
    from async_guard.logs.report import make_report

    result = read_bytes(tmp_path, lines(line(1, **changed)))
    report = make_report(result)

    assert counts(result) == {1: count}
    for module in (plain, as_json, markdown, sarif, html):
        assert module.render(report)
    assert explanation(report.problems[0])


@pytest.mark.parametrize(
    "fingerprint", [None, 5, "", [], "x" * 1000, "../../etc", {"a": 1}, "<script>"]
)
def test_no_fingerprint(tmp_path, fingerprint):
    """
    A hit without a fingerprint cannot be counted: it is lost, with a reason.
    """
    result = read_bytes(tmp_path, lines(line(1, fingerprint=fingerprint), line(2)))

    assert counts(result) == {2: 1}
    assert told(result) == (0, 1, 0)
    assert "fingerprint" in result.accounts.first_lost[0].reason


def test_future_version(tmp_path):
    """
    Events of a version that is not known yet are counted as far as they are understood, and told.
    """
    result = read_bytes(
        tmp_path,
        lines(line(1, schema_version="2.0", new_key=[{"a": 1}]), line(1, schema_version="1.9")),
    )

    assert counts(result) == {1: 2}
    assert result.accounts.newer == 1


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000 + '"async_guard.hit"',
        '{"async_guard.x":' * 50_000,
        '{"event": "async_guard.hit", "async_guard.count": ' + "9" * 10_000 + "}",
        '{"a": ' + "1" * 5000 + ', "b": "async_guard.hit"}',
        "async_guard",
        '"async_guard.hit"',
        "null async_guard",
        '{"event": "async_guard.hit"}',
        '{"event": "async_guard.started", "async_guard.version": "1"}',
        '  File "/site-packages/async_guard/probe.py", line 3, in async_guard',
        "{'async_guard': 1}",
        '{"INSTALLED_APPS": ["async_guard"]}',
    ],
)
def test_strange_lines(tmp_path, text):
    """
    Whatever stands in a line, the next ones are read.
    """
    result = read_bytes(tmp_path, lines(text, line(2), text))

    assert counts(result) == {2: 1}


@pytest.mark.parametrize(
    "text",
    [
        "async_guard",
        '  File "/site-packages/async_guard/probe.py", line 3, in async_guard',
        '{"INSTALLED_APPS": ["async_guard"]}',
        "INFO settings: {'INSTALLED_APPS': ['async_guard']}",
        'GET /async_guard/ {"a": 1} done',
        'KeyError: "async_guard"',
        '{"event": "x", "logger": "async_guard.sinks", "message": "async_guard"}',
        '{"log": "async_guard is not installed", "stream": "stderr"}',
    ],
)
def test_foreign_lines(tmp_path, text):
    """
    Lines that only mention us are foreign, not lost.
    """
    result = read_bytes(tmp_path, lines(text, line(2), text))

    assert counts(result) == {2: 1}
    assert told(result) == (0, 0, 0)
    assert result.accounts.foreign == 2


def zstd(data: bytes) -> bytes:
    try:
        from compression.zstd import compress
    except ImportError:
        compress = pytest.importorskip("backports.zstd").compress
    return compress(data)


COMPRESS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
}


@pytest.mark.parametrize("codec", COMPRESS)
def test_compressed(tmp_path, codec):
    """
    Compression is known by content, whatever the name is.
    """
    compress = COMPRESS[codec]
    data = compress(lines(line(1), FOREIGN)) + compress(lines(line(2))) + lines(line(3))
    result = read_bytes(tmp_path, data, name="app.txt")

    assert counts(result) == {1: 1, 2: 1, 3: 1}
    assert told(result) == (0, 0, 0)


@pytest.mark.parametrize("codec", COMPRESS)
@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95])
def test_truncated_archive(tmp_path, codec, cut):
    """
    Of an archive that ends early everything before its end is read, and the end is told.
    """
    import random

    random.seed(1)
    noise = [json.dumps({"event": "x", "noise": random.randbytes(3000).hex()}) for _ in range(200)]
    data = COMPRESS[codec](lines(line(1), *noise, line(2)))
    result = read_bytes(tmp_path, data[: int(len(data) * cut)])

    assert result.accounts.lost >= 1
    assert any("ends early" in loss.reason for loss in result.accounts.first_lost)
    if codec == "gzip":
        assert counts(result) == {1: 1}


def test_damaged_archive(tmp_path):
    """
    After a damaged member of an archive the next one is read, and the damage is told.
    """
    first, second = gzip.compress(lines(line(1)) * 300), gzip.compress(lines(line(2)))
    broken = first[:40] + b"\xff" * 30 + first[70:]
    result = read_bytes(tmp_path, broken + second)

    assert counts(result).get(2) == 1
    assert any("damaged" in loss.reason for loss in result.accounts.first_lost)


@pytest.mark.parametrize("codec", ["gzip", "bzip2", "xz"])
def test_archive_damaged_at_its_end(tmp_path, codec):
    """
    What came out before the damage is kept, and a member behind it is read.
    """
    first = lines(*(line(1, note=f"{n}") for n in range(30)), line(1, relation="x" * 5000))
    broken = bytearray(COMPRESS[codec](first))
    broken[-9 if codec == "bzip2" else -6 if codec == "gzip" else -32] ^= 0xFF
    result = read_bytes(tmp_path, bytes(broken) + COMPRESS[codec](lines(line(2))))

    assert counts(result) in ({1: 31, 2: 1}, {1: 30, 2: 1})
    assert any("is damaged" in loss.reason for loss in result.accounts.first_lost)


PADDED = {
    "4 bytes": lambda one, two: one + b"\0" * 4 + two,
    "a block": lambda one, two: one + b"\0" * 512 + two,
    "more than is read at once": lambda one, two: one + b"\0" * 200_000 + two,
    "at the end": lambda one, two: one + two + b"\0" * 512,
}


@pytest.mark.parametrize("codec", COMPRESS)
@pytest.mark.parametrize("pad", PADDED.values(), ids=PADDED)
def test_padded_archive(tmp_path, codec, pad):
    """
    Zeros between the members of an archive, and behind them, hide nothing.
    """
    compress = COMPRESS[codec]
    result = read_bytes(tmp_path, pad(compress(lines(line(1))), compress(lines(line(2)))))

    assert counts(result) == {1: 1, 2: 1}
    assert told(result) == (0, 0, 0)


@pytest.mark.parametrize("codec", COMPRESS)
def test_empty_members(tmp_path, codec):
    """
    Nor do members without data, wherever they are.
    """
    compress = COMPRESS[codec]
    members = (b"", lines(line(1)), b"", lines(line(2)), b"")
    result = read_bytes(tmp_path, b"".join(map(compress, members)))

    assert counts(result) == {1: 1, 2: 1}
    assert told(result) == (0, 0, 0)


@pytest.mark.parametrize("codec", COMPRESS)
@pytest.mark.parametrize("size", [1, 200])
def test_archive_behind_text(tmp_path, codec, size):
    """
    An archive may follow text, which need not be in ASCII.
    """
    noise = [json.dumps({"event": "x", "name": "Zoë"}, ensure_ascii=False)] * 2000
    archive = COMPRESS[codec](lines(*map(line, range(2, 2 + size))))
    result = read_bytes(tmp_path, lines(line(1), *noise) + archive + lines(line(1)))

    assert counts(result) == {1: 2, **dict.fromkeys(range(2, 2 + size), 1)}
    assert told(result) == (0, 0, 0)


@pytest.mark.parametrize("codec", COMPRESS)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_compressed_text_with_a_mark(tmp_path, codec, encoding):
    """
    UTF-16 is known by its byte order mark, also in an archive.
    """
    text = lines(line(1), FOREIGN, line(2)).decode().encode(encoding)
    result = read_bytes(tmp_path, COMPRESS[codec](text))

    assert counts(result) == {1: 1, 2: 1}
    assert told(result) == (0, 0, 0)


def test_first_losses_only(tmp_path):
    """
    Of many losses the first are named and all are counted.
    """
    result = read_bytes(tmp_path, lines(*[line(1, fingerprint=None)] * 50))

    assert result.accounts.lost == 50
    assert len(result.accounts.first_lost) == 10


def test_lost_by_the_guard(tmp_path):
    """
    What the guard itself had no room for is told, too.
    """
    losses = {
        "event": "async_guard.summary",
        "async_guard.version": "0.1.0",
        "message": "forgot",
        "async_guard.count": 17,
        "async_guard.evicted": 2,
    }
    dropped = {
        "event": "async_guard.dropped",
        "async_guard.version": "0.1.0",
        "message": "dropped",
        "async_guard.dropped": 4,
    }
    result = read_bytes(tmp_path, lines(json.dumps(losses), json.dumps(dropped), line(1)))

    assert counts(result) == {1: 1}
    assert (result.accounts.unnamed, result.accounts.dropped) == (17, 4)


UNREAD = {
    "cut": "2026-02-01 ERROR async_guard.hit: UserType.profile read User.prof",
    "structlog's console": "2026-02-01 [error    ] async_guard.hit       async_guard.count=1",
    "in colour": "[\x1b[1merror\x1b[0m] \x1b[1masync_guard.hit\x1b[0m \x1b[36mx",
    "logfmt": 'message="A sentence." event=async_guard.hit async_guard.count=1',
    "keys and values": "event='async_guard.summary' async_guard.frames=[{'line': 1}]",
    "in docker": json.dumps({"log": "[error] async_guard.hit  a=1\n", "stream": "stderr"}),
    "quoted logfmt": 'event="async_guard.hit" async_guard.count=1 message="A sentence."',
    "CSV": '"2026-02-01","{""event"": ""async_guard.hit"", ""async_guard.count"": 1}"',
    "deep objects": '{"data": ' * 20 + line(9) + "}" * 20,
    "CRI": '2026-02-01T00:00:00Z stdout F event="async_guard.hit"',
}


@pytest.mark.parametrize("text", UNREAD.values(), ids=UNREAD)
def test_written_for_people(tmp_path, text):
    """
    Lines that name an event and hold none are told, with the first one and what to do.
    """
    result = read_bytes(tmp_path, lines(FOREIGN, line(1), text, text))

    accounts = result.accounts
    assert counts(result) == {1: 1}
    assert told(result) == (0, 0, 0)
    assert (accounts.lines, accounts.ours, accounts.foreign) == (4, 1, 3)
    assert not accounts.is_whole
    assert summed_up(accounts)[1:] == [
        "2 lines written for people, with the name of an event but not its keys (the first: "
        f"{tmp_path}/app.log, byte {len(lines(FOREIGN, line(1)))}): to have them counted, set "
        "ASYNC_GUARD['LOG_FILE'], or log through structlog's JSONRenderer."
    ]


def test_nested_too_deeply(tmp_path):
    """
    A text in texts in texts is lost, with the reason.
    """
    text = line(1)
    for _ in range(9):
        text = json.dumps({"message": text})
    result = read_bytes(tmp_path, lines(text, line(2)))

    assert counts(result) == {2: 1}
    assert [each.reason for each in result.accounts.first_lost] == ["an event nested too deeply"]


GLUED = {
    "two": readable(1) + readable(2),
    "by CR": f"{readable(1)}\r{readable(2)}\r",
    "in docker": json.dumps({"log": f"{readable(1)}\n{readable(2)}\n", "stream": "stdout"}),
    "before JSON": f"{readable(1)} {line(2)}",
    "behind JSON": f"{line(2)}{readable(1)}",
    "between JSON": f"{line(4)} {readable(1)} {line(2)}",
    "with a key": readable(1).replace(" [", ' "async_guard.x" [') + readable(2),
}


@pytest.mark.parametrize("text", GLUED.values(), ids=GLUED)
def test_lines_for_people_on_one_line(tmp_path, text):
    """
    Lines of plain ``logging`` on one line, also beside JSON, are all read.
    """
    result = read_bytes(tmp_path, lines(FOREIGN, text, line(3)))

    assert {**counts(result), 4: 1} == {1: 1, 2: 1, 3: 1, 4: 1}
    assert (result.accounts.lost, result.accounts.unread) == (0, 0)


@pytest.mark.parametrize("cut", [60, 140])
def test_line_for_people_within_another(tmp_path, cut):
    """
    A line for people that another one came into is lost, and told; the other one is read.
    """
    text = readable(1)
    torn = read_bytes(tmp_path, lines(text[:cut] + readable(2), text[cut:], line(3)))
    cut_off = read_bytes(tmp_path, lines(readable(2) + text[:cut], line(3)))

    assert counts(torn) == counts(cut_off) == {2: 1, 3: 1}
    assert told(torn) == told(cut_off) == (0, 1, 0)


def test_a_line_of_beginnings(tmp_path):
    """
    A line that begins an event over and over takes no seconds.
    """
    started = time.monotonic()
    result = read_bytes(tmp_path, lines("async_guard.hit: " * 20_000, line(1)))

    assert (counts(result), result.accounts.unread) == ({1: 1}, 1)
    assert time.monotonic() - started < 2


def test_words_about_us(tmp_path):
    """
    A line that only speaks of async_guard is like any other.
    """
    text = "INFO async_guard.hits: see async_guard.hitting, async_guard and xasync_guard.hit_id"
    result = read_bytes(tmp_path, lines(text, line(1)))

    assert (counts(result), result.accounts.unread, result.accounts.is_whole) == ({1: 1}, 0, True)
