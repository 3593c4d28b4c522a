"""The page of a slide: its maps, its numbers and what to know of them, in one file that loads nothing."""

import io
from pathlib import Path

from PIL import Image

from bach_keras.evidence import notes
from bach_keras.evidence import page as web
from bach_keras.serving.slide import pictures
from bach_keras.serving.slide.agreement import in_words
from bach_keras.serving.slide.colours import COLOURS, FAILED, css
from bach_keras.serving.slide.raster import Raster, raster
from bach_keras.serving.slide.regions import Regions
from bach_keras.serving.slide.shares import tissue_shares
from bach_keras.serving.slide.tiles import AnsweredSlide
from bach_keras.wording import counted
from datasets.escape import for_html

# Of the longer side of a picture, in pixels.
_LARGE, _SMALL, _QUALITY = 1000, 520, 88
# A page with thousands of regions would not open; summary.json has them all.
MOST_REGIONS = 200

# Two large pictures, where there is room for them.
_SIDE_BY_SIDE = "display:grid;gap:1.5rem 2rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr))"

# What the other files of the folder are for.
_FILES = {
    "tiles.csv": "every tile with its answer, or why it has none",
    "tiles.geojson.gz": "the tiles for QuPath: open the slide there, then drag this file onto it",
    "probabilities.ome.tiff": "the probabilities as a pyramid that knows its scale, for QuPath and others",
    "classes.ome.tiff": "the class of each tile as a pyramid of numbers, which its description names",
    "classes.png": "the class of each tile",
    "probabilities.png": "the probability of each class",
    "summary.json": "the numbers of this page for programs, with the digests of all files",
}

_LIMITS = [
    "No figure here says that the model is safe or useful in the care of a patient.",
    "The model learned from fields that experts chose, each of one class. A slide has many tiles that are of no class, "
    "such as fat, muscle, blood and folds: they get one of its answers all the same.",
    "A tile is answered as a whole. So the map is no finer than a tile, and its sides are no outlines of anything.",
    "Answers are for tiles at the scale above. If the scale is wrong, all answers are.",
]


def write_page(path: Path, slide: AnsweredSlide, summary: dict, regions: Regions | None = None) -> None:
    """Write the page of a slide as one HTML file; ``summary`` is what summary.json says of it."""
    made, shares = raster(slide), tissue_shares(slide)
    sections = {
        "map": ("Class of each tile", [*_class_map(slide, made, shares, regions), _far(summary.get("tiles") or {})]),
        "tissue": ("Tissue by class", _tissue(shares)),
        "probabilities": ("Probability of each class", _probabilities(slide, made)),
        "regions": ("Agreement with the outlined regions", _regions(summary.get("agreement"))),
        "quick": ("Quick look", _quick(summary.get("quick"))),
        "made": ("How it was made", _made(slide, summary)),
        "files": ("Files beside this page", [_files()]),
        "limits": ("Limits", [web.items(_LIMITS)]),
    }
    sections = {name: each for name, each in sections.items() if each[1]}
    parts = [
        *_warnings(summary.get("model") or {}),
        web.heading(1, slide.name),
        web.paragraph(notes.DEVICE, "note"),
        _cards(slide, summary, shares),
        web.contents({name: title for name, (title, _) in sections.items()}),
        *(web.section(name, *each) for name, each in sections.items()),
    ]
    web.write_page(path, f"{slide.name}: tiles by class", parts)


def _warnings(model: dict) -> list[str]:
    """Return what must be known before any answer is read: all that the model warns of, the phantoms loudly."""
    phantom = notes.synthetic("", model.get("configs") or ())
    said = [each for each in model.get("warnings") or () if not (phantom and "phantom" in each)]
    return [phantom, *(web.paragraph(each, "loud") for each in said)]


def _cards(slide: AnsweredSlide, summary: dict, shares: dict) -> str:
    tiles = summary.get("tiles") or {}
    answered = sum(not each.failed for each in slide.tiles)
    every = f"of {tiles['all']}; {tiles['background']} have too little tissue" if "background" in tiles else ""
    every += f", {tiles['outside']} touch no region" if tiles.get("outside") else ""
    unsure = sum(bool(each.row.get("unsure")) for each in slide.tiles)
    is_calibrated = any(each.row.get("unsure") is not None for each in slide.tiles)
    millimetres = [side * slide.scale.value / 1000 for side in (slide.width, slide.height)]
    return web.cards({
        "Tiles answered": (f"{answered}", every),
        "Tissue answered": (f"{shares['tissue_mm2']:.3g} mm²", "of the tiles answered"),
        "Scale": (f"{slide.scale.value:.4g} µm a pixel", f"from {slide.scale.source}"),
        "A tile": (f"{slide.field:.4g} µm", "wide and high"),
        "Unsure": (f"{unsure}", "of the tiles answered") if is_calibrated else (web.MISSING, "not calibrated"),
        "Slide": ("{:.3g} × {:.3g} mm".format(*millimetres), f"{slide.width} × {slide.height} pixels"),
    })  # fmt: skip


def _class_map(slide: AnsweredSlide, made: Raster, shares: dict, regions: Regions | None) -> list[str]:
    picture = pictures.thumbnail(slide, _LARGE)
    counts = ", ".join(f"{name} {counted(each['tiles'], 'tile')}" for name, each in shares["classes"].items())
    classes = pictures.of_classes(slide, made, picture)
    if regions:
        classes, picture = (pictures.with_regions(slide, each, regions) for each in (classes, picture))
    mapped = _image(classes, f"The slide under the class of each tile: {counts}.")
    plain = _image(picture, f"The slide {slide.name} at low magnification.")
    sentence = "Each tile has the colour of its likeliest class."
    if made.unsure.any():
        sentence += " Where it is in stripes, the model is unsure."
    if failed := shares["failed"]["tiles"]:
        sentence += f" {counted(failed, 'tile')} could not be answered, which tiles.csv says why: grey."
    if regions:
        sentence += " Black lines are the outlined regions."
    return [
        _legend(slide, made),
        f'<div style="{_SIDE_BY_SIDE}">{web.figure(mapped, sentence, "Classes.")}'
        f"{web.figure(plain, 'As it was read.', 'The slide.')}</div>",
    ]


def _far(tiles: dict) -> str:
    if not tiles.get("far_from_training"):
        return ""
    count = f"{tiles['far_from_training']} of {counted(tiles['answered'], 'tile')}"
    return web.paragraph(
        f"{count} lie farther from every training image, by the model's features, than nearly all training images do "
        "from each other: the model may not know what they show. The distance of each is in tiles.csv and in the "
        "GeoJSON.",
        "note",
    )


def _legend(slide: AnsweredSlide, made: Raster) -> str:
    """Return which colour is which class, as a list."""
    edge = 'stroke="currentColor" stroke-width="0.6"'
    filled = {name: css(COLOURS[name]) for name in slide.classes}
    filled |= {"could not be answered": css(FAILED)} if made.failed.any() else {}
    box = '<rect x="1" y="1" width="24" height="10" fill="{}" {}/>'
    swatches = {name: box.format(colour, edge) for name, colour in filled.items()}
    if made.unsure.any():
        lines = "".join(f"M{x} 11L{x + 8} 1" for x in range(1, 18, 4))
        drawn = f'{box.format("none", edge)}<path d="{lines}" fill="none" {edge}/>'
        swatches["unsure: stripes of its colour"] = drawn
    lines = "".join(
        f'<li><svg aria-hidden="true" viewBox="0 0 26 12">{drawn}</svg>{for_html(name)}</li>'
        for name, drawn in swatches.items()
    )
    return f'<ul class="legend" style="margin-bottom:.7rem">{lines}</ul>'


def _tissue(shares: dict) -> list[str]:
    is_calibrated = any(each["unsure_mm2"] is not None for each in shares["classes"].values())
    heads = ["class", "tiles", "tissue, mm²", "share of the tissue", *(["of it unsure, mm²"] if is_calibrated else [])]
    rows = [
        [name, each["tiles"], web.decimal(each["tissue_mm2"]), web.percent(each["share"], 1)]
        + ([web.decimal(each["unsure_mm2"])] if is_calibrated else [])
        for name, each in shares["classes"].items()
    ]
    failed = shares["failed"]
    if failed["tiles"]:
        rows.append(["not answered", failed["tiles"], web.decimal(failed["tissue_mm2"]), ""] + [""] * is_calibrated)
    return [web.table(heads, rows, "Tissue by the class of its tiles"), web.paragraph(shares["caveat"], "note")]


def _probabilities(slide: AnsweredSlide, made: Raster) -> list[str]:
    picture = pictures.thumbnail(slide, _SMALL)
    drawn = []
    for name, values in pictures.probabilities(slide, made).items():
        some = values[made.answered]
        mean = f"mean {some.mean():.3f}, highest {some.max():.3f}" if some.size else "nothing was answered"
        alt = f"The slide under the probability of {name}: {mean}."
        drawn.append(
            web.figure(_image(pictures.of_probability(slide, made, picture, values), alt), f"{mean}.", f"{name}:")
        )
    bar = pictures.heat_bar()[::-1, 0]
    stops = ", ".join("#{:02x}{:02x}{:02x}".format(*colour) for colour in [*bar[:-1:32], bar[-1]])
    scale = (
        f'<p>Colour of a probability: 0 <span role="img" aria-label="from dark violet over green to yellow" '
        f'style="display:inline-block;width:9rem;max-width:50vw;height:.8rem;border:1px solid currentColor;'
        f'background:linear-gradient(to right, {stops})"></span> 1. Grey was not answered.</p>'
    )
    given = pictures.given_carci(slide)
    return [web.paragraph(given) if given else "", scale, web.figures(drawn)]


def _regions(found: dict | None) -> list[str]:
    if not found:
        return []
    rows = [
        [
            each["name"], each["class"] or "none", each["truth"] or "not compared", each["label"] or "not answered",
            web.percent(_share_of_label(each)), web.decimal(each["mm2"]),
            web.percent(each["answered_mm2"] / each["mm2"]),
        ]
        for each in found["each"][:MOST_REGIONS]
    ]  # fmt: skip
    heads = [
        "region",
        "class in the file",
        "taken for",
        "most of it answered",
        "share of that",
        "mm²",
        "of it answered",
    ]
    caption = counted(found["regions"], "region")
    if found["regions"] > MOST_REGIONS:
        caption += f"; the first {MOST_REGIONS}, summary.json has all"
    by_class = [
        [truth, *(web.decimal(area) for area in of_labels.values())] for truth, of_labels in found["mm2"].items()
    ]
    labels = [*next(iter(found["mm2"].values()))] if found["mm2"] else []
    return [
        *map(web.paragraph, in_words(found)),
        web.items([*found["notes"], *_small(found)]),
        web.table(["class of the regions", *labels], by_class, "Area by label, mm²") if by_class else "",
        web.table(heads, rows, caption, {0: "file", 1: "file"}),
        web.paragraph(found["caveat"], "note"),
    ]


def _small(found: dict) -> list[str]:
    count = found["smaller_than_a_tile"]
    return [f"Regions smaller than a tile: {count} of {found['regions']}."] if count else []


def _share_of_label(each: dict) -> float | None:
    """Return on which share of what was answered of a region the most frequent label is; None of nothing answered."""
    return each["labels_mm2"][each["label"]] / each["answered_mm2"] if each["label"] else None


def _quick(found: dict | None) -> list[str]:
    if not found:
        return []
    from bach_keras.serving.slide.quick import in_words as saved_in_words  # it brings TensorFlow

    words = (
        "Four tiles at once were looked at first, at low magnification, and each by itself only where carci was not "
        "sure of the four. Of the others some were looked at by themselves too, to see which labels change by it."
    )
    rows = [[name.replace("_", " "), web.setting(value)] for name, value in found.items()]
    return [
        web.paragraph(words),
        web.paragraph(f"{saved_in_words(found)}."),
        web.table(["", "value"], rows, "The quick look", {1: "long"}),
    ]


def _made(slide: AnsweredSlide, summary: dict) -> list[str]:
    model, field, tissue = (summary.get(name) or {} for name in ("model", "field", "tissue"))
    settings = {
        "model": model.get("name"),
        "digest of the model": model.get("digest"),
        "data that it learned from": model.get("configs"),
        "views of each tile": model.get("views"),
        "micrometres a pixel of the slide": f"{slide.scale.value:g}, from {slide.scale.source}",
        "micrometres of a tile": f"{slide.field:g}" + (f", from {field['source']}" if "source" in field else ""),
        "pixels of a tile": field.get("pixels"),
        "pixels from a tile to the next": slide.step,
        "least share of tissue of a tile": tissue.get("least"),
        "routing": summary.get("routing"),
    }
    rows = [[name, web.setting(value)] for name, value in settings.items() if value is not None]
    return [web.table(["setting", "value"], rows, "Settings", {1: "long"})]


def _files() -> str:
    """Return links to the other files of the folder."""
    lines = "".join(f'<li><a href="{name}">{name}</a>: {for_html(what)}</li>' for name, what in _FILES.items())
    return f"<ul>{lines}</ul>"


def _image(pixels, alt: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=_QUALITY)
    return web.image(buffer.getvalue(), alt)
