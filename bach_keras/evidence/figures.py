"""The figures of a report, each with its caption, as HTML."""

import math

from bach_keras.evidence.page import decimal, figure
from bach_keras.evidence.plot import Axis, Plot, legend
from bach_keras.wording import counted
from datasets.escape import for_html

# A loss that spans as much or more is drawn on a logarithmic axis: on another, its end would be a flat line.
DECADE = 10
# A range test is drawn to where its loss is so many times as far above its least value as it ever was before.
RISE = 3


def confusion(matrix, classes, title: str) -> str:
    """Return a confusion matrix as a table, a row for each true class, its cells shaded by their share of the row."""
    heads = "".join(f'<th scope="col">{for_html(name)}</th>' for name in classes)
    rows = []
    for place, (name, row) in enumerate(zip(classes, matrix, strict=True)):
        total = sum(row) or 1
        cells = "".join(
            f'<td{" class=right" if column == place else ""} style="--share:{count / total:.3f}">{for_html(count)}</td>'
            for column, count in enumerate(row)
        )
        rows.append(f'<tr><th scope="row">{for_html(name)}</th>{cells}</tr>')
    top = f'<tr><th scope="col" rowspan="2">true</th><th scope="colgroup" colspan="{len(classes)}">answered</th></tr>'
    head = f"<thead>{top}<tr>{heads}</tr></thead>"
    label = for_html(f"Confusion matrix, {title}")
    grid = f'<table class="matrix">{head}<tbody>{"".join(rows)}</tbody></table>'
    box = f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">{grid}</div>'
    wrong = sum(map(sum, matrix)) - sum(row[place] for place, row in enumerate(matrix))
    return figure(box, f"{wrong} of {sum(map(sum, matrix))} images wrong. Shaded by the share of each row.", title)


def beside_paper(ours: dict[str, dict | None], published: dict[str, dict[str, float]]) -> str:
    """Return our accuracies with their intervals, and the paper's as diamonds.

    Args:
        ours: title of the node, or of the whole -> its score, or None.
        published: the paper's row -> title -> its accuracy.
    """
    titles = list(ours)
    places = {title: len(titles) - number for number, title in enumerate(titles)}
    values = [score["accuracy_ci95"][0] for score in ours.values() if score]
    values += [value for row in published.values() for value in row.values()]
    plot = Plot(
        Axis("accuracy", max(0.0, math.floor(min(values) * 10) / 10), 1.0), Axis("", 0.4, len(titles) + 0.6), left=88
    )
    series = dict(zip(published, ("two", "three"), strict=False))
    for title, score in ours.items():
        down = places[title]
        for shift, (row, known) in zip((0.22, -0.22), published.items(), strict=False):
            if title in known:
                plot.diamonds([(known[title], down + shift)], series[row])
        if score:
            plot.line([(end, down) for end in score["accuracy_ci95"]], "one")
            plot.dots([(score["accuracy"], down)], "one", 4.5)
    said = [
        f"{title} {decimal(score['accuracy'])}" if score else f"{title} not measured" for title, score in ours.items()
    ]
    picture = plot.svg("Accuracies beside the paper's: " + ", ".join(said), {place: t for t, place in places.items()})
    keys = {"ours, with its 95 % interval": "dot one"}
    keys |= {f"the paper, {row}": f"diamond {color}" for row, color in series.items()}
    return figure(picture + legend(keys), "The paper gives no intervals.", "Accuracy.")


def reliability(after: dict, before: dict | None, title: str) -> str:
    """Return a reliability diagram: how often answers of some confidence are right; dots are larger for more images."""
    plot = Plot(Axis("confidence", 0.0, 1.0), Axis("share that is right", 0.0, 1.0), height=290)
    plot.line([(0, 0), (1, 1)], "grey dashed")
    keys, said = {}, []
    for name, score, style in (("before calibration", before, "two hollow"), ("after calibration", after, "one")):
        if not score or not score.get("reliability"):
            continue
        bins = [(part["confidence"], part["accuracy"], _radius(part["n"])) for part in score["reliability"]]
        plot.line([point[:2] for point in bins], style.split()[0] + (" dashed" if "hollow" in style else ""))
        plot.dots(bins, style)
        words = name if before else "as it answers"
        keys[words] = f"dot {style}"
        said.append(f"{words}: calibration error {decimal(score.get('calibration_error'))}")
    if not keys:
        return ""
    keys["as sure as right"] = "line grey dashed"
    picture = plot.svg(f"Reliability diagram, {title}. {'; '.join(said)}.")
    return figure(picture + legend(keys), "; ".join(said).capitalize() + ".", f"{title}.")


def _radius(count) -> float:
    return min(11.0, 2.5 + 0.9 * math.sqrt(count))


def coverage(points: list[dict], unsure: dict | None) -> str:
    """Return the accuracy when only the most confident share of the images is answered."""
    curve = sorted((point["coverage"], point["accuracy"]) for point in points)
    accuracies = [accuracy for _, accuracy in curve]
    mark = None
    if unsure and unsure.get("accuracy_of_sure") is not None:
        mark = (1 - unsure["share"], unsure["accuracy_of_sure"])
        accuracies.append(mark[1])
    low = math.floor(min(accuracies) * 10 - 1e-9) / 10
    plot = Plot(Axis("share of the images that is answered", 0.0, 1.0), Axis("accuracy of these", max(0.0, low), 1.0))
    plot.line(curve, "one")
    if len(curve) <= 25:
        plot.dots(curve, "one", 3)
    keys = {"the most confident answers": "line one"}
    if mark:
        plot.dots([mark], "two hollow", 6)
        keys["without the unsure ones"] = "dot two hollow"
    label = f"Accuracy against coverage: {decimal(curve[-1][1])} when every image is answered"
    label += f", {decimal(curve[0][1])} for the most confident {100 * curve[0][0]:.0f} %."
    return figure(plot.svg(label) + legend(keys), "From the most confident answer to the least.", "Selective answers.")


def group_sizes(sizes: list[int]) -> str:
    """Return how many images each patient has, the most first."""
    plot = Plot(
        Axis("patients, the one of most images first", 0.0, float(len(sizes)) or 1.0),
        Axis.around("images", [0, max(sizes)]),
    )
    plot.bars([(number + 0.5, size) for number, size in enumerate(sizes)], "one", 0.8)
    largest = ", ".join(map(str, sizes[:6])) + (" and so on" if len(sizes) > 6 else "")
    words = f"Images of each of {counted(len(sizes), 'patient')}: {largest}."
    return figure(plot.svg(words), words, "Who stands behind the images.")


def curves(history: list[dict], best_epoch: int | None) -> list[str]:
    """Return a run's training curves, from the rows of its history.csv: its loss, and its accuracy."""
    return [_curve(history, name, best_epoch) for name in ("loss", "accuracy")]


def _curve(history, name, best_epoch) -> str:
    lines = {}
    for key, words, style in ((name, "training", "grey dashed"), (f"val_{name}", "validation", "one")):
        points = [(float(row["epoch"]), float(row[key])) for row in history if row.get(key) not in (None, "")]
        points = [point for point in points if math.isfinite(point[1])]
        if points:
            lines[words] = (points, style)
    values = [value for points, _ in lines.values() for _, value in points]
    if not values:
        return figure("", f"No epoch has a finite {name}.", f"{name.capitalize()}.")
    # A loss of 0 lies below a logarithmic axis, and the curve leads there.
    positive = [value for value in values if value > 0]
    spans = bool(positive) and max(positive) >= DECADE * min(positive)
    y = Axis.around(name + (", logarithmic" if spans else ""), positive if spans else values, log=spans)
    plot = Plot(Axis.around("epoch", [0, *(point[0] for points, _ in lines.values() for point in points)]), y)
    keys = {}
    for words, (points, style) in lines.items():
        plot.line(points, style)
        if len(points) <= 30:
            plot.dots(points, style.split()[0], 2.5)
        keys[words] = f"line {style}"
    if best_epoch:
        plot.upright(best_epoch, "two")
        keys[f"epoch kept, {best_epoch}"] = "line two dashed"
    said = ", ".join(f"{words} {decimal(points[-1][1])}" for words, (points, _) in lines.items())
    label = f"Training curves, {name}: at the end {said}"
    return figure(plot.svg(label) + legend(keys), f"At the end: {said}.", f"{name.capitalize()}.")


def range_test(entry: dict) -> str:
    """Return a learning rate range test, from an entry of lr_range_test.json."""
    metric, probe = entry["metric"], entry.get("probe") or {}
    series = {
        "each batch": (_points(entry, "values"), "grey faint"),
        "smoothed": (_points(entry, "smoothed"), "grey" if probe else "one"),
        "probe": (_points(probe, "values"), "one"),
    }
    series = {words: given for words, given in series.items() if given[0]}
    # What is smooth says how high the picture is: single batches of a loss that diverges leave it.
    smooth = [value for words in ("smoothed", "probe") for _, value in series.get(words, ((), ""))[0]]
    rates = [rate for points, _ in series.values() for rate, _ in points]
    title = f"{str(entry.get('phase', '')).capitalize()}."
    if not smooth or min(rates) <= 0:
        return figure("", "It holds no point that can be drawn.", title)
    least = min(smooth)
    begin = max(smooth[: len(series.get("smoothed", (smooth, ""))[0]) // 2 + 1])
    y = Axis.around(metric, [least, min(max(smooth), least + RISE * (begin - least))])
    plot = Plot(Axis("learning rate", min(rates), max(rates), log=True), y)
    for points, style in series.values():
        plot.line(_up_to(points, y.high), style)
    keys = {words: f"line {style}" for words, (_, style) in series.items()}
    for mark, color in (("divergence", "two"), ("suggestion", "three")):
        plot.upright(entry[mark], color)
        keys[f"{mark} {entry[mark]:.2g}"] = f"line {color} dashed"
    clear = "" if entry["clear"] else " The curve is not clear of its noise, so this is a guess."
    words = f"The {metric} starts to diverge at {entry['divergence']:.2g}; suggested: {entry['suggestion']:.2g}.{clear}"
    return figure(plot.svg(f"Learning rate range test, {title} {words}") + legend(keys), words, title)


def _up_to(points, high: float) -> list[tuple[float, float]]:
    """Return the points of a curve until it leaves the picture for good, and where it does; rates are positive."""
    end = max((place for place, (_, value) in enumerate(points) if value <= high), default=0) + 1
    if end >= len(points) or points[end - 1][1] > high:
        return points[:end]
    (rate, value), (later, above) = points[end - 1], points[end]
    return [*points[:end], (rate * (later / rate) ** ((high - value) / (above - value)), high)]


def _points(series: dict, name: str) -> list[tuple[float, float]]:
    pairs = zip(series.get("rates", ()), series.get(name, ()), strict=False)
    return [pair for pair in pairs if all(map(math.isfinite, pair))]
