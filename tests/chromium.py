"""Debian's Chromium without a window, which opens the pages."""

import json
import shutil
import time

import pytest

BROWSER, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
needs_chromium = pytest.mark.skipif(
    not (shutil.which(BROWSER) and shutil.which(DRIVER)), reason="Debian's chromium and chromium-driver are not here."
)

# It looks for nothing by itself, and finds nothing but this machine.
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)  # fmt: skip
# Of text, by the Web Content Accessibility Guidelines, level AA.
LEAST_CONTRAST = 4.5

# Returns the texts whose contrast with what is behind them is too low: [contrast, text] of each.
CONTRASTS = """
const parse = text => {
  const parts = (text.match(/-?[\\d.]+(e-?\\d+)?/g) || []).map(Number);
  const scale = text.startsWith('color(') ? 255 : 1;
  return [...parts.slice(0, 3).map(part => part * scale), parts.length > 3 ? parts[3] : 1];
};
const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
const behind = element => {
  if (!element) return parse(getComputedStyle(document.body).backgroundColor);
  const own = parse(getComputedStyle(element).backgroundColor);
  return own[3] === 1 ? own : over(own, behind(element.parentElement));
};
const light = color => {
  const linear = part => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4;
  const [r, g, b] = color.map(part => linear(part / 255));
  return .2126 * r + .7152 * g + .0722 * b;
};
const low = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let seen = 0;
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement, style = getComputedStyle(element);
  if (!walker.currentNode.data.trim() || !element.getClientRects().length || element.closest('style')) continue;
  const ground = behind(element);
  const ink = over(parse(element.closest('svg') ? style.fill : style.color), ground);
  const [dark, bright] = [light(ink), light(ground)].sort((a, b) => a - b);
  const contrast = (bright + .05) / (dark + .05);
  seen += 1;
  if (contrast < arguments[0]) low.push([contrast, walker.currentNode.data]);
}
return [seen, low];
"""


class Browser:
    """A browser without a window."""

    def __init__(self):
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = BROWSER
        for flag in FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))

    def open(self, path, width=1200, scheme="light"):
        """Open a page, a file or an address, in a window of a width, by day or by night."""
        self.emulate(scheme)
        self.resize(width)
        self.driver.get_log("performance"), self.driver.get_log("browser")
        self.driver.get(path if isinstance(path, str) else path.as_uri())

    def resize(self, width):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def emulate(self, scheme="light", media=""):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})

    def requests(self):
        """Return what the browser asked for since the page was opened, without what the page itself brings."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [request["request"]["url"] for request in sent if not request["request"]["url"].startswith("data:")]

    def sideways(self):
        """Return by how many pixels the page is wider than the window."""
        return self.driver.execute_script(
            "const page = document.documentElement; return page.scrollWidth - page.clientWidth;"
        )

    def heard(self):
        """Return the role and the name of what those who hear the page are told of, once the browser has made that."""
        self.driver.execute_cdp_cmd("Accessibility.enable", {})
        before = []
        for _ in range(50):
            nodes = self.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
            told = [node for node in nodes if not node["ignored"]]
            heard = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in told]
            if len(heard) > 1 and heard == before:  # a busy browser gives the bare page at first
                return heard
            before = heard
            time.sleep(0.1)
        raise AssertionError("Chromium does not say what those who hear this page are told of.")

    def contrasts(self):
        return self.driver.execute_script(CONTRASTS, LEAST_CONTRAST)
