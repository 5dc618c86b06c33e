"""The HTML report in a real browser."""

import json
import re
import shutil
from pathlib import Path

import pytest

from async_guard.logs.render import html
from async_guard.logs.report import Problem, Report, make_report
from tests.logs.making import line, read_bytes

HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror=alert(1)>"\'&'
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
AXE = Path(__file__).parents[2] / ".axe" / "axe.min.js"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def report(folder: Path, number: int = 12) -> Report:
    """Return a report of problems that differ in everything that is sorted and filtered by."""
    lines = [
        line(
            i,
            count=i,
            relation=f"app.Model{i:03}.field",
            outcome="swallowed" if i % 3 == 0 else "raised",
            frames=json.loads(line(i))["async_guard.frames"] * 15,
        ).replace("2026-01-31T12:34", f"2026-01-{1 + (i + hour) % 28:02}T{hour:02}:34")
        for i in range(1, number + 1)
        for hour in range(8)
    ]
    made = make_report(read_bytes(folder, "\n".join(lines).encode()))
    made.problems[0].patch = "--- a/users/types.py\n+++ b/users/types.py\n-    old <b>\n+    new\n"
    return made


def test_self_contained(tmp_path):
    """
    The page loads nothing, allows no other style or script, and has no attribute that is either.
    """
    page = html.render(report(tmp_path))

    assert not re.search(
        r"(?:src|srcset|data|action)\s*=",
        page.split("<body>")[1].split("<script>")[0].replace("data-", ""),
    )
    assert "http-equiv" in page and "default-src 'none'" in page
    assert not re.search(r"\s(?:style|on\w+)=", page)
    assert "@import" not in page and "url(" not in page
    assert set(re.findall(r'href="(https?://[^/"]+)', page)) <= {"https://github.com"}


def test_hostile_names(tmp_path):
    """
    Markup in names stays text.
    """
    keys = ("relation", "advice", "code__text", "graphql__operation__name", "http__route")
    keys += ("code__file__path", "code__function__name", "view", "message", "service__name")
    text = line(1, **dict.fromkeys(keys, HOSTILE), rule=HOSTILE, docs="javascript:alert(1)")
    page = html.render(make_report(read_bytes(tmp_path, text.encode())))

    assert "<img" not in page
    assert page.count("<script>") == 1
    assert page.count("</script>") == 1
    assert "javascript:" not in page
    assert "&lt;/script&gt;" in page


def test_size(tmp_path):
    """
    A page of 400 problems is smaller than 500 KB, and still has all of them.
    """
    page = html.render(report(tmp_path, 400))

    assert len(page.encode()) < 500_000
    assert page.count("<details") == 400
    assert page.count("<h3>Stack</h3>") >= html.IN_FULL


def test_nothing_found(tmp_path):
    """
    A report without problems is a page, too.
    """
    page = html.render(make_report(read_bytes(tmp_path, b"")))

    assert "0 problems" in page
    assert Problem  # the page needs none


@pytest.fixture
def browser():
    selenium = pytest.importorskip("selenium.webdriver")
    if not (BROWSER and DRIVER):
        pytest.skip("needs chromium and chromedriver")
    options = selenium.ChromeOptions()
    options.binary_location = BROWSER
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = selenium.ChromeService(executable_path=DRIVER)
    driver = selenium.Chrome(options=options, service=service)
    driver.set_window_size(1000, 900)
    yield driver
    driver.quit()


def opened(browser, folder: Path, made: Report) -> None:
    path = folder / "report.html"
    path.write_text(html.render(made), "utf-8")
    browser.get(path.as_uri())


def shown(browser) -> list[str]:
    script = (
        "return [...document.querySelectorAll('#problems > li')]"
        ".filter(li => !li.hidden).map(li => li.querySelector('summary code').textContent)"
    )
    return browser.execute_script(script)


def test_in_a_browser(tmp_path, browser):
    """
    Filter, order and expand work, by keyboard too, and the console says nothing.
    """
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select

    opened(browser, tmp_path, report(tmp_path))
    names = [f"app.Model{i:03}.field" for i in range(12, 0, -1)]
    assert shown(browser) == names

    words = browser.find_element("name", "words")
    words.send_keys("model007")
    assert shown(browser) == ["app.Model007.field"]
    assert browser.find_element("id", "shown").text == "1 of 12 problems shown"
    words.send_keys(Keys.CONTROL, "a")
    words.send_keys(Keys.DELETE)
    Select(browser.find_element("name", "outcome")).select_by_visible_text("swallowed")
    assert len(shown(browser)) == 4
    Select(browser.find_element("name", "outcome")).select_by_visible_text("any")
    Select(browser.find_element("name", "order")).select_by_value("name")
    assert shown(browser) == names[::-1]

    first = browser.find_element("css selector", "#problems summary")
    browser.execute_script("arguments[0].focus()", first)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.execute_script("return document.querySelector('details').open")
    browser.find_element("name", "expand").click()
    assert browser.execute_script("return document.querySelectorAll('details[open]').length") == 12
    assert browser.get_log("browser") == []


def test_without_script(tmp_path, browser):
    """
    Without JavaScript every problem can be read, and no control stands there that does nothing.
    """
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    opened(browser, tmp_path, report(tmp_path))

    assert not browser.find_element("css selector", "form").is_displayed()
    summaries = browser.find_elements("css selector", "#problems summary")
    summaries[0].click()
    assert "Stack" in browser.find_element("css selector", "#problems details > div").text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible(tmp_path, browser, scheme):
    """
    axe finds nothing to complain about, in either colour scheme.
    """
    if not AXE.exists():
        pytest.skip("needs axe-core: make .axe/axe.min.js")
    feature = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
    opened(browser, tmp_path, report(tmp_path))
    browser.find_element("name", "expand").click()
    browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    browser.execute_script(AXE.read_text("utf-8"))
    found = browser.execute_async_script("axe.run().then(arguments[0])")

    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
