"""Findings on a page and in a terminal: the table of what was compared, and the distributions drawn."""

from collections.abc import Iterator

from bach_keras.evidence.page import decimal, figure, interval
from bach_keras.evidence.plot import Axis, Plot, legend

HEADS = ("", "here", "95 % interval", "known", "n", "p, corrected", "")
_TITLES = {
    "blur": "blur, median", "tissue": "tissue, median", "stain": "distance of stain, median",
    "features": "distance to training images, median", "confidence": "probability of the label, median",
}  # fmt: skip


def title(name: str) -> str:
    """Return what a finding is called in a sentence."""
    return _TITLES.get(name, name).removesuffix(", median")


def rows(findings: list[dict]) -> Iterator[tuple[str, ...]]:
    """Yield the cells below ``HEADS``; a mix takes a row for each label beside its own."""
    for each in findings:
        if each["statistic"] == "mix":
            yield (each["name"], "", "", "", str(each["n"]), *_verdict(each))
            for label, share in each["value"].items():
                known = decimal((each["known"] or {}).get(label))
                yield f"{each['name']}: {label}", decimal(share), interval(each["ci95"][label]), known, "", "", ""
            continue
        name = _TITLES.get(each["name"], each["name"])
        known = decimal(each["known"])
        yield name, decimal(each["value"]), interval(each["ci95"]), known, str(each["n"]), *_verdict(each)


def _verdict(each) -> tuple[str, str]:
    if each["p_holm"] is None:
        return ("", "")
    p = "< 0.001" if each["p_holm"] < 1e-3 else decimal(each["p_holm"])
    return p, "DIFFERENT" if each["differs"] else ""


def plots(findings: list[dict], compared_with: str) -> list[str]:
    """Return a picture of each measure whose distribution is known on both sides."""
    return [_plot(each, compared_with) for each in findings if "known_percentiles" in each]


def _plot(each, compared_with) -> str:
    name = title(each["name"])
    here, known = each["percentiles"], each["known_percentiles"]
    # Beyond its last percent a distribution would take all the room.
    plot = Plot(Axis.around(name, [*here[1:100], *known[1:100]]), Axis("share of images below", 0.0, 1.0))
    for values, style in ((known, "grey"), (here, "one")):
        plot.line([(value, step / 100) for step, value in enumerate(values)], style)
    words = f"Median {decimal(here[50])} here, {decimal(known[50])} of {compared_with}."
    return figure(plot.svg(f"{name}: {words}") + legend({compared_with: "line grey", "here": "line one"}), words, name)
