"""One image as HTML: its answer, the path to it, where the nodes looked, and what speaks against trusting it."""

from bach_keras.evidence.overlay import COVERS
from bach_keras.evidence.ranges import in_words
from bach_keras.serving.app import tree_picture
from bach_keras.serving.app.answers import Answer, data_url
from bach_keras.tree import NODES, ROOT
from datasets.escape import for_html


def detail(answer: Answer, image_size: int | None) -> str:
    """Return what is shown of one image; ``image_size`` is the side of the square that the model sees."""
    name = f'<h2 tabindex="-1">{for_html(answer.name)}</h2>'
    if "error" in answer.row:
        return f'<article>{name}<p class="error">{for_html(answer.row["error"])}</p></article>'
    row = answer.row
    parts = [
        name,
        _headline(row),
        _warnings(row),
        f'<div class="pair"><figure>{tree_picture.svg(row)}<figcaption>{for_html(tree_picture.in_words(row))} A line '
        "is as wide as the node is sure.</figcaption></figure>"
        f"{_probabilities(row)}</div>",
        _pictures(answer, image_size),
        _neighbours(row),
        _facts(row),
    ]
    return f"<article>{''.join(parts)}</article>"


def _headline(row) -> str:
    share = row["probabilities"][row["label"]]
    answered = f"<b>{for_html(row['label'])}</b> <span>with a probability of {share:.3f}</span>"
    return f'<p class="answer">{answered} {_sure(row)}</p>{_set(row)}'


def _sure(row) -> str:
    if row["unsure"] is None:
        return ""
    return '<strong class="unsure">unsure</strong>' if row["unsure"] else '<strong class="sure">sure</strong>'


def _set(row) -> str:
    if row["set"] is None:
        return "<p>This model was not calibrated, so it does not say where it is unsure.</p>"
    return f"<p>Cannot be ruled out: {for_html(', '.join(row['set']))}.</p>"


def _probabilities(row) -> str:
    inside = row["set"] or ()
    lines = "".join(
        f'<tr><th scope="row">{for_html(name)}</th><td class="number">{share:.3f}</td>'
        f'<td class="bar"><span style="width:{100 * share:.1f}%"></span></td>'
        f"<td>{'in the set' if name in inside else ''}</td></tr>"
        for name, share in row["probabilities"].items()
    )
    head = '<th scope="col">class</th><th scope="col">probability</th><td></td><td></td>'
    spread = row.get("spread")
    more = "" if spread is None else f"<p>Spread over the views of the image: {spread:.3f}.</p>"
    return (
        f'<div><table class="shares"><caption>Probabilities</caption><thead class="heard"><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table>{more}</div>"
    )


def _warnings(row) -> str:
    """Return what the measures of the image say, or that the model does not know what its training images were."""
    found = row.get("warnings")
    if found is None:
        return "<p>This model does not know whether the image is unlike those that trained it.</p>"
    if not found:
        return ""
    said = "".join(f"<li>{for_html(in_words(each))}</li>" for each in found)
    return f'<div class="warned"><h3>This image is unlike those that trained the model</h3><ul>{said}</ul></div>'


def _pictures(answer, image_size) -> str:
    address, shown = data_url(answer.shown.picture, "image/jpeg"), answer.shown
    if not shown.maps:
        return (
            f'<div class="looked"><figure><div class="stack"><img alt="The image" src="{address}"></div></figure></div>'
        )
    slider = (
        '<label class="strength">Strength of the overlay '
        f'<input type="range" min="0" max="100" value="{100 * COVERS:.0f}"></label>'
    )
    figures = "".join(_figure(answer, node, address, image_size) for node in shown.maps)
    lit = tree_picture.path_to(answer.row["label"], tree_picture.nodes_of(answer.row))
    aside = [NODES[node].title for node, _ in lit if node not in shown.maps]
    if aside:  # near a tie the maps, and so these pictures, are of carci's own answer
        figures += (
            f'<p class="soft">{for_html(aside[0])} is not drawn: the pictures follow the answer of '
            f"{NODES[ROOT.name].title}, which is nearly a tie here.</p>"
        )
    scale = 'Nothing<span class="scale" aria-hidden="true"></span>most for this class; pale: not seen by the network.'
    return (
        f'<section class="looked" style="--strength:{COVERS}" aria-label="Where it looked"><h3>Where it looked</h3>'
        f'{slider}<div class="figures">{figures}</div><p class="soft">{scale}</p></section>'
    )


def _figure(answer, node, address, image_size) -> str:
    layer, place = answer.shown.layer(node, image_size)
    left, top, width, height = (f"{100 * share:.3f}%" for share in place)
    answered = answer.row["nodes"][node]
    label = max(answered, key=answered.get)
    nowhere = "" if answer.shown.maps[node].any() else ", but no place speaks for it"
    words = f"{NODES[node].title}: where it looked for {label}{nowhere}"
    return (
        f'<figure><div class="stack"><img alt="" src="{address}"><div class="seen" style="left:{left};top:{top};'
        f'width:{width};height:{height}"><img class="map" alt="{for_html(words)}" src="{data_url(layer, "image/png")}">'
        f"</div></div><figcaption>{for_html(words)} ({answered[label]:.3f})</figcaption></figure>"
    )


def _neighbours(row) -> str:
    found = row.get("neighbours")
    if not found:
        return ""
    figures = "".join(
        f"<figure>{_thumbnail(each)}<figcaption><b>{for_html(each['label'])}</b> {for_html(each['name'])}, distance "
        f"{each['distance']:.3f}, percentile {each['percentile']:.1f}</figcaption></figure>"
        for each in found
    )
    note = "A percentile near 100 means that the image is as far from all training images as none of these is."
    return (
        '<section aria-label="Training images that it resembles"><h3>Training images that it resembles</h3>'
        f'<div class="near">{figures}</div><p class="soft">{note}</p></section>'
    )


def _thumbnail(each) -> str:
    return f'<img alt="" src="{for_html(each["thumbnail"])}">' if each["thumbnail"] else ""


def _facts(row) -> str:
    said = []
    if scale := row.get("um_per_pixel"):
        said.append(f"{scale['value']:.4g} micrometres per pixel, from {scale['source']}")
    else:
        said.append("The file does not say its micrometres per pixel, so its scale was not judged")
    if profile := row.get("icc"):
        applied = "applied" if profile["applied"] else "not applied"
        said.append(f"Colour profile of the file: {profile['profile']}, {applied}")
    return f'<ul class="facts">{"".join(f"<li>{for_html(each)}.</li>" for each in said)}</ul>'
