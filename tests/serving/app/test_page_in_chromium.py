"""The page in a browser: dropped images and their answers, by mouse and by keyboard, on a desk and on a phone."""

import base64
import gc
import logging
import re
import socket
import time
from urllib.parse import urlsplit

import pytest
import requests

from bach_keras.serving.app.site import Site
from tests.chromium import Browser, needs_chromium

pytestmark = [
    needs_chromium,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # Gradio makes event loops, and does not close them
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),  # Gradio's, of its statistics
]

HOSTILE = "<b>{{7*7}}${7*7} ütf-8 乳腺.png"


@pytest.fixture(scope="module")
def site(answers):
    with Site(answers) as opened:
        gc.collect()
        yield opened
    del opened
    gc.collect()  # while what Gradio leaves unclosed is passed over


@pytest.fixture(scope="module")
def browser():
    opened = Browser()
    yield opened
    opened.driver.quit()


def test_visitors_who_go_away_and_damaged_uploads_leave_no_error_in_the_log(site, caplog):
    place = urlsplit(site.url)
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    )
    with socket.create_connection((place.hostname, place.port), timeout=30) as half:
        half.sendall(f"{head}Content-Length: 100000\r\n\r\n--x\r\n".encode())
        time.sleep(0.2)
    with socket.create_connection((place.hostname, place.port), timeout=30) as damaged:
        damaged.sendall(f"{head}Content-Length: 2\r\n\r\nab".encode())
        assert b" 400 " in damaged.recv(2**16)
    time.sleep(0.2)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


class Page:
    """The page as a visitor has it before them."""

    def __init__(self, browser, url, **how):
        self.browser, self.driver = browser, browser.driver
        browser.open(url, **how)
        self.until(lambda: self.find("#drop input[type=file]"))

    def find(self, selector):
        return self.driver.find_elements("css selector", selector)

    def text(self, selector):
        return self.driver.execute_script(
            "return document.querySelector(arguments[0])?.textContent.trim() ?? ''", selector
        )

    def until(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, self.text("#said")
            time.sleep(0.05)
        return found

    def drop(self, *paths):
        self.find("#drop input[type=file]")[0].send_keys("\n".join(map(str, paths)))
        words = f"{len(paths)} image{'' if len(paths) == 1 else 's'} done"
        self.until(lambda: self.text("#said").startswith(words))

    def shoot(self, path):
        height = self.driver.execute_script("return document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": 1200, "height": height, "scale": 1}
        taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        path.write_bytes(base64.b64decode(taken["data"]))


def test_images_are_dropped_and_the_answer_its_path_and_its_maps_are_read(browser, site, answered, folder, tmp_path):
    page = Page(browser, site.url)
    page.drop(folder / "insitu.tif", folder / "benign.png", folder / "cut.png")
    row = answered["insitu.tif"].row
    assert page.text("#detail h2") == "insitu.tif"
    assert page.text("#detail .answer").startswith(f"{row['label']} with a probability of")
    assert f"{row['probabilities'][row['label']]:.3f}" in page.text("#detail .answer")
    assert page.text("#detail svg .leaf.lit").startswith(row["label"])
    assert len(page.find("#detail .map")) == 2
    assert "cut.png" in page.text("#table .error")
    page.shoot(tmp_path / "desk.png")
    csv = base64.b64decode(page.find("a.save")[0].get_attribute("href").partition(",")[2]).decode()
    assert [line.partition(",")[0] for line in csv.splitlines()] == ["path", "insitu.tif", "benign.png", "cut.png"]


def test_the_page_asks_nobody_else_and_breaks_no_rule(browser, site, folder):
    page = Page(browser, site.url)
    page.drop(folder / "benign.png")
    asked = browser.requests()
    assert len(asked) > 5
    assert [url for url in asked if not url.startswith(f"{site.url}/")] == []
    errors = [entry for entry in browser.driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []


def test_a_row_that_is_chosen_is_shown_and_its_overlay_has_a_strength(browser, site, folder):
    page = Page(browser, site.url)
    page.drop(folder / "insitu.tif", folder / "benign.png")
    page.find("button[data-row='1']")[0].click()
    page.until(lambda: page.text("#detail h2") == "benign.png")
    assert page.find("button[data-row='1']")[0].get_attribute("aria-current") == "true"
    strength = "return Number(getComputedStyle(document.querySelector('#detail .map')).opacity)"
    assert page.driver.execute_script(strength) == pytest.approx(0.7)
    page.driver.execute_script(
        "const slider = document.querySelector('.strength input'); slider.value = 0;"
        "slider.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    assert page.driver.execute_script(strength) == 0
    page.find("button[data-row='0']")[0].click()
    page.until(lambda: page.text("#detail h2") == "insitu.tif")
    page.until(lambda: page.driver.execute_script(strength) == 0)
    slider = page.find(".strength input")[0]
    assert (slider.get_property("value"), slider.get_attribute("aria-valuetext")) == ("0", "0 %")


def test_a_keyboard_alone_is_enough(browser, site, folder):
    from selenium.webdriver.common.keys import Keys

    page = Page(browser, site.url)
    page.drop(folder / "insitu.tif", folder / "benign.png")
    page.driver.execute_script("document.activeElement.blur()")
    reached, looks = [], set()
    for _ in range(16):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        script = (
            "const a = document.activeElement, s = getComputedStyle(a);"
            "return [a.dataset.row ?? a.className.split(' ')[0], s.outlineStyle]"
        )
        name, outline = page.driver.execute_script(script)
        reached.append(name)
        looks.add(outline)
        if name == "1":
            page.driver.switch_to.active_element.send_keys(Keys.ENTER)
            page.until(lambda: page.text("#detail h2") == "benign.png")
            page.until(lambda: page.driver.switch_to.active_element.text == "benign.png")
            break
    assert reached[:2] == ["upload-container", "scroll"]
    assert looks == {"solid"}
    page.driver.switch_to.active_element.send_keys(Keys.TAB)
    slider = page.driver.switch_to.active_element
    slider.send_keys(Keys.ARROW_LEFT)
    assert slider.get_attribute("value") == "69"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_fits_and_can_be_read(browser, site, folder, tmp_path, scheme, width):
    page = Page(browser, site.url, width=width, scheme=scheme)
    page.drop(folder / "insitu.tif", folder / "text.png")
    page.shoot(tmp_path / "page.png")
    assert browser.sideways() == 0
    seen, low = browser.contrasts()
    assert seen > 40
    assert low == []


def test_the_warning_of_phantoms_stays_in_sight(browser, site, folder):
    page = Page(browser, site.url, width=360)
    page.drop(folder / "insitu.tif")
    page.driver.execute_script("scrollTo(0, document.documentElement.scrollHeight / 2)")
    top, bottom = page.driver.execute_script(
        "const box = document.querySelector('.loud').getBoundingClientRect(); return [box.top, box.bottom]"
    )
    assert "mean NOTHING" in page.text(".loud")
    assert 0 <= top < bottom <= 200


def test_names_are_text_in_any_alphabet(browser, site, folder, tmp_path):
    path = tmp_path / HOSTILE
    path.write_bytes((folder / "benign.png").read_bytes())
    page = Page(browser, site.url)
    page.drop(path)
    assert page.text("#detail h2") == HOSTILE
    assert page.text("#table button") == HOSTILE
    assert page.find("#table b")[0].text != ""
    assert len(page.find("#table button b")) == 0


def test_those_who_hear_the_page_are_told_of_answers_and_names(browser, site, folder):
    page = Page(browser, site.url)
    page.drop(folder / "insitu.tif")
    assert page.find("[role=status]")[0].text.startswith("1 image done")
    heard = browser.heard()
    assert [role for role, name in heard if role in ("button", "slider", "region") and not name] == []
    assert len([role for role, name in heard if role in ("image", "img") and not name]) <= 2  # Gradio's own icons
    assert ("slider", "Strength of the overlay") in heard
    assert any(role in ("image", "img") and name.startswith("Path through the tree") for role, name in heard)


def test_one_visitor_does_not_see_the_images_of_another(browser, site, folder):
    page = Page(browser, site.url)
    page.drop(folder / "insitu.tif")
    other = Page(browser, site.url)
    assert other.text("#table") == other.text("#detail h2") == ""


def test_only_what_was_uploaded_is_read(site, folder):
    functions = requests.get(f"{site.url}/config", timeout=30).json()["dependencies"]
    number = next(each["id"] for each in functions if len(each["inputs"]) == 2)
    outside, kind = str(folder / "benign.png"), {"_type": "gradio.FileData"}
    files = [{"path": path, "meta": kind} for path in ("/etc/hostname", outside, "http://127.0.0.1:9/a.png")]
    # Gradio looks at none of these: the folder of all visitors' uploads, a stream, and a file without its mark.
    files += [{"path": str(site.uploads.folder), "meta": kind}, {"path": outside, "is_stream": True, "meta": kind}]
    files += [{"path": outside}, {"path": 3}, 3]
    for place, file in enumerate(files):
        data = {"data": [[file], None], "fn_index": number, "session_hash": f"s{place}"}
        assert requests.post(f"{site.url}/gradio_api/queue/join", json=data, timeout=30).ok
        answers = requests.get(
            f"{site.url}/gradio_api/queue/data", params={"session_hash": data["session_hash"]}, timeout=30
        )
        assert re.search(r'"success": ?false', answers.text)
        assert "data-row" not in answers.text
    for path in ("/etc/hostname", outside):
        assert requests.get(f"{site.url}/gradio_api/file={path}", timeout=30).status_code in (403, 404)


def test_an_upload_that_has_no_room_or_says_no_length_is_refused(site, monkeypatch):
    place = f"{site.url}/gradio_api/upload"
    assert requests.post(place, data=iter([b"--x"]), timeout=30).status_code == 411
    monkeypatch.setattr(site.uploads, "has_room_for", lambda size: False)
    assert requests.post(place, files={"files": b"x"}, timeout=30).status_code == 507


def test_uploads_that_nobody_waits_for_are_removed(site):
    left = site.uploads.folder / "half"
    left.write_bytes(b"x")
    site.uploads.remove_old()
    assert left.exists()
    site.uploads.remove_old(kept=0)
    assert not left.exists()


def test_a_page_of_another_name_is_not_answered(site):
    assert requests.get(site.url, headers={"Host": "elsewhere.example"}, timeout=30).status_code == 400
    assert "default-src 'self'" in requests.get(site.url, timeout=30).headers["Content-Security-Policy"]
