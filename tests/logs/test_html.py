"""The HTML report in a real browser."""

import json
import re
import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from async_guard.logs.proposal import Proposal
from async_guard.logs.render import html
from async_guard.logs.report import Report, make_report
from tests.logs.fetched import fetched, missing
from tests.logs.making import line, read_bytes

HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror=alert(1)>"\'&'
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-quic",
    ),
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
    made.problems[0].patch = Proposal(
        "--- a/users/types.py\n+++ b/users/types.py\n-    old <b>\n+    new\n", note="Review it."
    )
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
    A page of 400 problems is smaller than 500 KB, and still has all of them, and their patches.
    """
    made = report(tmp_path, 400)
    for problem in made.problems:
        problem.patch = Proposal("--- a/users/types.py\n" + "+    a line of the patch\n" * 40)
    page = html.render(made)

    assert len(page.encode()) < 500_000
    assert page.count("<details") == 400
    assert page.count("<h3>Stack</h3>") >= html.IN_FULL
    assert page.count("<h3>Patch</h3>") >= html.IN_FULL
    assert page.count("async-guard fix --only") + page.count("<h3>Patch</h3>") == 400


def test_nothing_found(tmp_path):
    """
    A report without problems is a page, too.
    """
    page = html.render(make_report(read_bytes(tmp_path, b"")))

    assert "0 problems" in page
    assert "<p>No problems.</p>" in page
    assert "<form" not in page


@pytest.fixture
def browser():
    if not (BROWSER and DRIVER):
        missing("needs chromium and chromedriver (Debian: apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
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


def test_hostile_in_a_browser(tmp_path, browser):
    """
    Nothing that a log says runs, is loaded, or makes the page wider than the window.
    """
    opened(browser, tmp_path, hostile(tmp_path))
    browser.find_element("name", "expand").click()

    assert browser.title == "async_guard: 2 problems"
    assert browser.find_elements("css selector", "img, #problems script") == []
    assert browser.execute_script(
        "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    assert browser.get_log("browser") == []


def hostile(folder: Path) -> Report:
    keys = ("relation", "advice", "code__text", "code__file__path", "message", "view")
    wide = HOSTILE + "W" * 500
    lines = [
        line(1, **dict.fromkeys(keys, wide), rule=wide, docs="javascript:alert(1)"),
        line(2, **dict.fromkeys(keys, "\u202e\u200b<b>" + "\u754c" * 500)),
    ]
    made = make_report(read_bytes(folder, "\n".join(lines).encode()))
    made.problems[0].patch = Proposal(f"--- {wide}\n+++ {wide}\n+{wide}\n", note=wide)
    return made


def test_patch(tmp_path, browser):
    """
    The patch stands there line by line, and what is to be seen about it.
    """
    opened(browser, tmp_path, report(tmp_path))
    browser.find_element("name", "expand").click()

    [patch] = [
        each
        for each in browser.find_elements("css selector", "#problems details > div")
        if "Patch" in each.text
    ]
    pre = patch.find_elements("tag name", "pre")[1]
    assert pre.text.splitlines() == [
        "--- a/users/types.py",
        "+++ b/users/types.py",
        "-    old <b>",
        "+    new",
    ]
    assert "Review it." in patch.text


def test_print(tmp_path, browser):
    """
    On paper every problem is open, without controls, dark on light.
    """
    feature = [{"name": "prefers-color-scheme", "value": "dark"}]
    media = {"media": "print", "features": feature}
    opened(browser, tmp_path, report(tmp_path))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    heights = browser.execute_script(
        "return [...document.querySelectorAll('details > div')].map(each => each.offsetHeight)"
    )
    assert len(heights) == 12
    assert min(heights) > 100
    assert not browser.find_element("css selector", "form").is_displayed()
    ground = "return getComputedStyle(document.body).backgroundColor"
    assert browser.execute_script(ground) == "rgb(255, 255, 255)"


def test_many_in_a_browser(tmp_path, browser):
    """
    With 400 problems filter and order answer at once.
    """
    opened(browser, tmp_path, report(tmp_path, 400))
    took = browser.execute_script(
        "const form = document.forms[0], started = performance.now();"
        "form.elements.order.value = 'name'; form.elements.words.value = 'model3';"
        "form.elements.order.dispatchEvent(new Event('change', {bubbles: true}));"
        "return performance.now() - started"
    )

    assert len(shown(browser)) == 100
    assert took < 1000


PAGES = {
    "some": report,
    "hostile": hostile,
    "none": lambda folder: make_report(read_bytes(folder, b"")),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_accessible(tmp_path, browser, scheme, page):
    """
    axe finds nothing to complain about, in either colour scheme, whatever is on the page.
    """
    axe = fetched("axe.min.js")
    feature = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
    opened(browser, tmp_path, PAGES[page](tmp_path))
    for each in browser.find_elements("name", "expand"):
        each.click()
    browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    browser.execute_script(axe)
    found = browser.execute_async_script("axe.run().then(arguments[0])")

    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
