"""The pages as a browser shows them: without a request, without a sideways scroll, by day, by night and on paper."""

import base64
import re

import pytest

from bach_keras.evidence.report import write_report
from bach_keras.evidence.results import write_results
from tests.chromium import Browser, needs_chromium
from tests.evidence import an_evaluation

pytestmark = needs_chromium

WIDTHS, SCHEMES = (360, 1200), ("light", "dark")


@pytest.fixture(scope="module")
def browser():
    opened = Browser()
    yield opened
    opened.driver.quit()


def node_alone(folder):
    _, result, rows = an_evaluation.write(folder / "whole")
    carci = result["nodes"]["carci"]
    nulls = dict.fromkeys(("uncalibrated", "unsure", "sets", "coverage"))
    alone = result | carci | nulls | {"kind": "node", "node": "carci", "headline": "carci", "nodes": {"carci": carci}}
    write_report(folder / "node.html", alone, [row | {"group": ""} for row in rows], [], {})
    return folder / "node.html"


def reproduction(folder):
    result = an_evaluation.result_of(an_evaluation.rows_of())
    run = {"node": "carci", "config": "bach", "protocol": "patient", "init": "imagenet", "run": "out/bach-carci"}
    run |= {"best_epoch": 31, "epochs": 48, "seconds": 6000}
    run |= {name: result[name] for name in ("accuracy", "accuracy_ci95", "n", "groups", "effective_n")}
    trees = [{"row": row, "protocol": "patient", "seed": 0, "score": result} for row in ("init", "ensemble")]
    write_results(folder / "results.html", {"config": "bach", "runs": [run], "trees": trees})
    return folder / "results.html"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Return name -> page: of a system, of phantoms, of a node without patients, and of a reproduction."""
    folder = tmp_path_factory.mktemp("pages")
    long = "a_file_whose_name_is_longer_than_any_telephone_is_wide_" * 3
    return {
        "system": an_evaluation.write(folder / "system")[0],
        "phantoms": an_evaluation.write(folder / "phantoms", "phantom", split_notes=[long], members=[long])[0],
        "node": node_alone(folder),
        "reproduction": reproduction(folder),
    }


PAGES = ("system", "phantoms", "node", "reproduction")


@pytest.mark.parametrize("name", PAGES)
def test_the_page_asks_for_nothing_and_breaks_no_rule(browser, pages, name):
    browser.open(pages[name])
    assert browser.requests() == [pages[name].as_uri()]
    assert browser.driver.get_log("browser") == []


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_does_not_scroll_sideways(browser, pages, name, width):
    browser.open(pages[name], width)
    assert browser.sideways() == 0


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_all_text_stands_out_from_what_is_behind_it(browser, pages, name, scheme):
    browser.open(pages[name], scheme=scheme)
    seen, low = browser.contrasts()
    assert seen > 50
    assert low == []


def test_day_and_night_differ_in_the_page_and_in_its_figures(browser, pages):
    script = (
        "return [getComputedStyle(document.body).backgroundColor, "
        "getComputedStyle(document.querySelector('svg .line')).stroke]"
    )
    found = {}
    for scheme in SCHEMES:
        browser.open(pages["system"], scheme=scheme)
        found[scheme] = browser.driver.execute_script(script)
    assert all(day != night for day, night in zip(*found.values(), strict=True))


@pytest.mark.parametrize("width", WIDTHS)
def test_letters_in_figures_are_large_enough_to_read(browser, pages, width):
    browser.open(pages["system"], width)
    smallest = browser.driver.execute_script(
        "return Math.min(...[...document.querySelectorAll('figure > svg')].map(svg => svg.getBoundingClientRect().width"
        " / svg.viewBox.baseVal.width * parseFloat(getComputedStyle(svg.querySelector('text')).fontSize)));"
    )
    assert smallest >= 9.9


@pytest.mark.parametrize("name", PAGES)
def test_the_page_prints(browser, pages, name):
    browser.open(pages[name], scheme="dark")
    printed = browser.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    content = base64.b64decode(printed["data"])
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 2


def test_paper_is_white_even_at_night_and_shows_what_is_folded_on_a_screen(browser, pages):
    browser.open(pages["system"], scheme="dark")
    script = (
        "return [getComputedStyle(document.body).backgroundColor, "
        "document.querySelector('details table').checkVisibility({contentVisibilityAuto: true})]"
    )
    assert browser.driver.execute_script(script)[1] is False
    browser.emulate("dark", "print")
    assert browser.driver.execute_script(script) == ["rgb(255, 255, 255)", True]
    assert browser.contrasts()[1] == []


def test_nothing_is_cut_off_on_a_sheet_of_a4(browser, pages):
    browser.open(pages["system"], 680)
    browser.emulate(media="print")
    assert browser.sideways() == 0


def test_every_picture_and_every_table_has_a_name_for_those_who_hear_the_page(browser, pages):
    browser.open(pages["system"])
    roles = browser.heard()
    pictures = [name for role, name in roles if role in ("image", "img")]
    assert len(pictures) > 40
    assert all(pictures)
    regions = [name for role, name in roles if role == "region" and not name]
    assert regions == []


def test_a_keyboard_reaches_the_contents_and_a_table_and_shows_where_it_is(browser, pages):
    from selenium.webdriver.common.keys import Keys

    browser.open(pages["system"], 360)
    reached = []
    for _ in range(16):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        script = "const a = document.activeElement; return [a.tagName, getComputedStyle(a).outlineStyle]"
        reached.append(browser.driver.execute_script(script))
    assert reached[0] == ["A", "solid"]
    assert ["DIV", "solid"] in reached


def test_a_page_that_calls_out_that_is_too_wide_or_too_pale_is_found(browser, tmp_path):
    """The checks above can fail."""
    bad = tmp_path / "bad.html"
    pale = '<p style="width:2000px;color:#999;background:#fff">pale</p><svg><text fill="#aaa" y="9">grey</text></svg>'
    bad.write_text(f'<!doctype html><body style="background:#fff"><img src="http://127.0.0.1:9/x.png">{pale}')
    browser.open(bad)
    assert "http://127.0.0.1:9/x.png" in browser.requests()
    assert browser.sideways() > 0
    assert [text for _, text in browser.contrasts()[1]] == ["pale", "grey"]
