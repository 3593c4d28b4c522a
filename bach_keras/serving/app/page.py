"""The page to drop images into, in Gradio."""

from collections.abc import Iterator
from pathlib import Path

import gradio

from bach_keras.fields import FieldError
from bach_keras.serving.app import batch
from bach_keras.serving.app.answers import MOST, Answers, Visit
from bach_keras.serving.app.detail import detail
from bach_keras.serving.app.uploads import is_upload
from bach_keras.serving.card import as_markdown, check_card
from datasets.errors import UserError
from datasets.escape import for_html

# Of so many visitors the answers are held in memory; who comes back after that drops the images again.
_VISITORS = 32

_INTRODUCTION = (
    f"Drop images of H&E-stained breast tissue, up to {MOST} at once: each is sorted into normal, benign, in situ or "
    "invasive. Research software, not a medical device. Not for diagnosis."
)
# The button of a row tells which image to show; the heading of what is then shown gets the focus.
_ON_CLICK = """
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-row]');
  if (!button) return;
  element.querySelectorAll('[aria-current]').forEach(each => each.removeAttribute('aria-current'));
  button.setAttribute('aria-current', 'true');
  trigger('select', {row: Number(button.dataset.row)});
});
"""
_TO_HEADING = "() => { document.querySelector('#detail h2')?.focus(); }"


def build(answers: Answers, folder: Path) -> gradio.Blocks:
    """Return the page of a model; what visitors upload goes into the folder."""
    with gradio.Blocks(title="Breast histology", analytics_enabled=False) as page:
        if answers.export.warnings:
            _html("banner", _banner(answers.export.warnings))
        _html("head", f"<h1>Breast histology</h1><p>{for_html(_INTRODUCTION)}</p>{_absent(answers)}")
        visit = gradio.State(Visit)
        drop = _drop(folder)
        said = _html("said", js_on_load="element.setAttribute('role', 'status');")
        table = _html("table", js_on_load=_ON_CLICK)
        shown = _html("detail")
        with gradio.Accordion("About this model", open=False, elem_id="card"):
            gradio.Markdown(_card(answers.export.card), latex_delimiters=[])
        quiet = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
        drop.upload(
            answering(answers, folder), [drop, visit], [drop, said, table, shown],
            preprocess=False, trigger_mode="multiple", **quiet,
        )  # fmt: skip
        table.select(choosing(answers), [visit], [shown], **quiet).then(None, js=_TO_HEADING)
    page.state_session_capacity = _VISITORS
    return page


def _drop(folder: Path) -> gradio.File:
    drop = gradio.File(label="Images: PNG, JPEG, BMP, TIFF", file_count="multiple", elem_id="drop", height=160)

    async def uploaded(path):
        # A request may name any file of this machine, or an address, which Gradio would ask for.
        if not is_upload(path, folder):
            raise _not_dropped()
        return path

    drop.async_move_resource_to_block_cache = uploaded
    return drop


def _html(name, value="", js_on_load=None) -> gradio.HTML:
    return gradio.HTML(value, elem_id=name, js_on_load=js_on_load, apply_default_css=False)


def _not_dropped() -> gradio.Error:
    return gradio.Error("This is not a file that was dropped.", print_exception=False)


def _dropped(files, folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the place and the name of each file of a request; Gradio does not look at all that may be in one."""
    if not isinstance(files, list):
        raise _not_dropped()
    for file in files:
        if not (isinstance(file, dict) and is_upload(file.get("path"), folder)):
            raise _not_dropped()
        path, name = Path(file["path"]), file.get("orig_name")
        yield path, name if name and isinstance(name, str) else path.name


def answering(answers: Answers, folder: Path):
    """Return what happens to files that are dropped; it yields what the page then shows, batch by batch."""

    def answer(files: list[dict] | None, visit: Visit) -> Iterator[tuple]:
        files = list(_dropped(files or [], folder))
        number = visit.begin(len(files))
        if not 0 < len(files) <= MOST:
            wrong = f"{len(files)} images are more than the {MOST} that are taken at once." if files else "No image."
            yield None, f'<p class="error">{wrong} Drop others.</p>', "", ""
            return
        yield None, f"<p>{batch.status([], len(files))}</p>", "", ""
        for found in answers.answer(files):
            if not visit.is_current(number):  # other images were dropped meanwhile
                return
            is_first = not visit.answers
            visit.answers += found
            yield None, *_shown(answers, visit, is_first)

    return answer


def _shown(answers, visit, is_first) -> tuple:
    link = batch.csv_link(visit.answers, answers.classes) if len(visit.answers) == visit.total else ""
    said = f"<p>{batch.status(visit.answers, visit.total)}</p>"
    table = batch.table(visit.answers, answers.classes, visit.chosen) + link
    first = detail(visit.answers[0], answers.export.side) if is_first else gradio.skip()
    return said, table, first


def choosing(answers: Answers):
    """Return what happens when a row of the table is chosen."""

    def choose(visit: Visit, event: gradio.EventData):
        row = event.row
        if not (isinstance(row, int) and 0 <= row < len(visit.answers)):
            return '<p class="error">These images are not held any more: drop them again.</p>'
        visit.chosen = row
        return detail(visit.answers[row], answers.export.side)

    return choose


def _banner(warnings) -> str:
    return "".join(f'<p class="loud">{for_html(sentence)}</p>' for sentence in warnings)


def _absent(answers) -> str:
    """Say what the page cannot show of any image."""
    absent = []
    if not answers.explains:
        absent.append("Where the nodes looked is not shown: that needs an export of this version itself (--model).")
    if answers.no_neighbours:
        absent.append(f"The training images that an image resembles are not shown: {answers.no_neighbours}")
    return "".join(f"<p>{for_html(each)}</p>" for each in absent)


def _card(card) -> str:
    try:
        return as_markdown(check_card(card or {}))
    except (FieldError, UserError, KeyError, TypeError):
        return "The server gives no model card that can be shown."
