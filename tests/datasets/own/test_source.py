"""What a user's folder or CSV file may hold, and the one sentence for each that cannot be used."""

import os

import numpy as np
import pytest
from PIL import Image, ImageDraw

from datasets import phantom
from datasets.bach_bisque.prepared import Prepared
from datasets.errors import UserError
from datasets.images.read import read_rgb
from datasets.own.checks import is_like_mask
from datasets.own.names import config_of, drawn_names, is_own
from datasets.own.prepare import prepare_own
from tests.datasets.own.own_images import folders, noise, sheet, write


def refusal(source, tmp_path, **given):
    """Return the sentence that a source is refused with; nothing is left of it."""
    with pytest.raises(UserError) as refused:
        prepare_own("a", source, tmp_path / "data", **given)
    assert not Prepared("own-a", tmp_path / "data").is_built
    return str(refused.value)


@pytest.fixture
def root(tmp_path):
    return folders(tmp_path / "images", count=2)


def test_words_that_nothing_knows_are_asked_about(tmp_path, root):
    for word in ("DCIS", "in situ", "overlays"):
        write(root / word / "x.png", len(word))
    said = refusal(root, tmp_path)
    assert "'DCIS' (1 image), 'in situ' (1 image), 'overlays' (1 image)" in said
    assert '--label "DCIS=insitu" --label "in situ=insitu" --label "overlays=LABEL"' in said
    given = ["dcis=InSitu", "in situ=insitu", "Overlays="]
    summary = prepare_own("a", root, tmp_path / "data", meanings=given)
    assert summary.labels == {"insitu": 2, "benign": 2, "normal": 2}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["benign"], "'benign' is not WORD=LABEL"),
        (["x=tumor"], "is not WORD=LABEL"),
        (["=insitu"], "is not WORD=LABEL"),
        (["DCIS=insitu"], "names 'dcis', but the words there are benign, normal"),
        (["benign=normal", "Benign=invasive"], "gives 'Benign' two meanings"),
        (["benign=", "normal="], "has no image left"),
    ],
)
def test_meanings_that_mean_nothing_are_refused(tmp_path, root, given, complaint):
    assert complaint in refusal(root, tmp_path, meanings=given)


@pytest.mark.parametrize("name", ["", "A", "a b", "../x", "-a", "a" * 41, "a/b", "ü", "a.b"])
def test_a_name_that_cannot_be_a_folders_is_refused(tmp_path, root, name):
    with pytest.raises(UserError, match="cannot name a data set"):
        prepare_own(name, root, tmp_path / "data")
    assert not is_own(f"own-{name}")


def test_a_source_without_images_is_refused(tmp_path, root):
    assert "does not exist" in refusal(tmp_path / "none", tmp_path)
    (tmp_path / "empty" / "benign").mkdir(parents=True)
    assert "holds no image" in refusal(tmp_path / "empty", tmp_path)
    write(root / "loose.png", 9)
    assert "(loose.png, 1 in all)" in refusal(root, tmp_path)


def test_a_folder_without_images_is_named(tmp_path, root, caplog):
    (root / "insitu").mkdir()
    prepare_own("a", root, tmp_path / "data")
    assert f"Without an image: insitu in {root}" in caplog.text


def test_an_archive_is_to_be_unpacked(tmp_path):
    (tmp_path / "images.zip").write_bytes(b"PK")
    assert "is an archive: unpack it" in refusal(tmp_path / "images.zip", tmp_path)


def test_files_that_are_not_images_are_passed_over_and_images_that_are_not_read_are_refused(tmp_path, root):
    (root / "benign" / "notes.txt").write_text("hello")
    (root / "benign" / "Thumbs.db").write_bytes(b"x")
    assert prepare_own("b", root, tmp_path / "data").images == 4
    (root / "benign" / "x.webp").write_bytes(b"RIFF....WEBP")
    assert "x.webp is not a PNG, JPEG, BMP or TIFF image but a WebP image" in refusal(root, tmp_path)


def sixteen_bits(path):
    Image.fromarray(np.zeros((36, 40), np.uint16)).save(path)


def pages(path):
    image = Image.fromarray(noise(1))
    image.save(path, save_all=True, append_images=[image])


def small(path):
    write(path, 1, (40, 31))


@pytest.mark.parametrize(
    ("name", "make", "complaint"),
    [
        ("x.png", sixteen_bits, "has more than 8 bits a channel"),
        ("x.tif", sixteen_bits, "has 16 bits a channel"),
        ("x.tif", pages, "has 2 pages"),
        ("x.jpg", small, "has 40x31 pixels, too few"),
        ("x.bmp", small, "has 40x31 pixels, too few"),
        ("x.png", lambda path: path.write_bytes(b""), "is empty"),
        ("x.png", lambda path: path.symlink_to("nowhere.png"), "is a link to what is not there"),
        ("x.png", os.mkfifo, "is a pipe"),
    ],
)
def test_images_that_cannot_be_used_are_found_before_any_is_encoded(tmp_path, root, monkeypatch, name, make, complaint):
    monkeypatch.setattr("datasets.own.staging._encode", lambda image: pytest.fail("encoded"))
    make(root / "benign" / name)
    said = refusal(root, tmp_path)
    assert complaint in said
    assert name in said


def test_labels_of_nothing_but_masks_are_refused(tmp_path, root):
    (root / "insitu").mkdir()
    for number in range(3):
        Image.fromarray((noise(number)[..., 0] > 128).astype(np.uint8) * 255).save(root / "insitu" / f"{number}.png")
    assert "The images of insitu look like masks or blank pictures" in refusal(root, tmp_path)
    mask = np.kron((noise(1, (8, 8))[..., 0] > 128).astype(np.uint8) * 255, np.ones((16, 16), np.uint8))
    for number in range(3):
        (root / "insitu" / f"{number}.png").unlink()
        Image.fromarray(mask).save(root / "insitu" / f"{number}.jpg", quality=90)
    assert "look like masks" in refusal(root, tmp_path)


def test_pale_grey_tissue_is_not_taken_for_masks(tmp_path, root):
    (root / "insitu").mkdir()
    for number in range(3):
        grey = np.asarray(Image.fromarray(phantom.draw("insitu", number, 0)).convert("L"))
        pale = (255 - (255 - grey.astype(float)) * 90 / (255 - grey.min())).astype(np.uint8)  # from 165 to 255
        Image.fromarray(pale).save(root / "insitu" / f"{number}.png")
    assert prepare_own("a", root, tmp_path / "data").labels["insitu"] == 3


@pytest.mark.parametrize("quality", [75, 90])
def test_masks_of_nuclei_that_were_saved_as_jpeg_are_still_masks(tmp_path, quality):
    rng = np.random.default_rng(0)
    mask = Image.new("L", (384, 288))
    pen = ImageDraw.Draw(mask)
    for x, y in rng.integers(0, (384, 288), (40, 2)).tolist():
        pen.ellipse((x, y, x + 24, y + 20), fill=255)
    mask.save(tmp_path / "mask.jpg", quality=quality)
    assert is_like_mask(read_rgb(tmp_path / "mask.jpg"))


def test_a_mask_among_images_is_named(tmp_path, root, caplog):
    Image.fromarray(np.zeros((36, 40, 3), np.uint8)).save(root / "benign" / "b0_mask.png")
    prepare_own("a", root, tmp_path / "data")
    assert "Named like masks: 1 image (benign/b0_mask.png)" in caplog.text
    assert "as blank pictures and masks have: 1 image (own-a/benign/b0_mask.png)" in caplog.text


def test_one_label_only_is_allowed_and_said(tmp_path, caplog):
    prepare_own("a", folders(tmp_path / "images", ("benign",)), tmp_path / "data")
    assert "images of one label only, benign: it trains no node by itself" in caplog.text


def test_a_file_that_is_named_twice_is_refused(tmp_path, root):
    (root / "normal" / "link.png").symlink_to(root / "benign" / "b0.png")
    assert "are one file: name it once" in refusal(root, tmp_path)


def test_a_name_that_is_not_text_is_refused(tmp_path, root):
    name = os.fsencode(root / "benign") + b"/\xff.png"
    with open(name, "wb") as file:
        file.write((root / "benign" / "b0.png").read_bytes())
    assert "not text in UTF-8: rename it" in refusal(root, tmp_path)


def test_a_closed_folder_is_refused(tmp_path, root, monkeypatch):
    from datasets.own import listing

    monkeypatch.setattr(listing, "walk", lambda folder: ([], [folder / "benign"]))
    assert "cannot be looked into" in refusal(root, tmp_path)


LINES = ["normal/n0.png,normal,1", "normal/n1.png,normal,2", "benign/b0.png,benign,Müller"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_csv_file_is_read_however_a_spreadsheet_writes_it(tmp_path, root, encoding, separator):
    text = "\r\n".join(["File Name,Class,Patient ID", *LINES]).replace(",", separator)
    (root / "list.csv").write_bytes(text.encode(encoding))
    summary = prepare_own("a", root / "list.csv", tmp_path / "data")
    assert (summary.labels, summary.groups) == ({"normal": 2, "benign": 1}, 3)
    assert {record.group for record in Prepared("own-a", tmp_path / "data").records} == {"1", "2", "Müller"}


def test_a_csv_file_may_lack_its_first_line_and_be_written_on_windows(tmp_path, root):
    path = sheet(root, ["normal\\n1.png,normal", "./benign/../benign/b0.png,Benign"], header="normal\\n0.png,normal")
    assert prepare_own("a", path, tmp_path / "data").labels == {"normal": 2, "benign": 1}
    absolute = sheet(root, [f"{root / 'normal' / 'n0.png'},normal,", "benign/b0.png,benign,"], "absolute.csv")
    prepare_own("b", absolute, tmp_path / "data")
    assert "own-b/normal/n0.png" in Prepared("own-b", tmp_path / "data").digests


def test_images_of_a_folder_that_its_csv_file_does_not_name_are_counted(tmp_path, root, caplog):
    (root / "list.csv").write_text("\n".join(["path,label,patient", *LINES]))
    prepare_own("whole", root / "list.csv", tmp_path / "data")  # a CSV file that is given says what is wanted
    assert "Not named" not in caplog.text
    (root / "normal" / "link.png").symlink_to(root / "normal" / "n0.png")  # which is named
    sheet(root, LINES)
    prepare_own("a", root, tmp_path / "data")
    assert f"Not named in {root / 'labels.csv'}, and so left out: 1 image of its folder (benign/b1.png)" in caplog.text


def test_a_folder_may_bear_the_name_of_a_column(tmp_path):
    write(tmp_path / "images" / "image" / "1.png", 1)
    path = sheet(tmp_path / "images", ["image/1.png,benign"], header="image,label")
    assert prepare_own("a", path, tmp_path / "data").labels == {"benign": 1}


def test_a_name_that_macos_wrote_in_parts_is_found(tmp_path, root):
    write(root / "normal" / "Mu\u0308ller.png", 5)
    path = sheet(root, ["normal/M\u00fcller.png,normal,", "benign/b0.png,benign,"])
    assert prepare_own("a", path, tmp_path / "data").images == 2


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "names no image"),
        (["normal/n0.png,normal,1", "none.png,benign,2", "x/none.png,benign,2"],
         "line 3 (none.png) is missing, with 1 more image: paths"),
        (["../outside.png,normal,1"], "lies outside of the folder of the CSV file"),
        (["/etc/passwd,normal,1"], "lies outside of the folder"),
        (["normal/n0.png,normal,1", "normal/../normal/n0.png,normal,1"], "line 3 (normal/../normal/n0.png) are one"),
        (["normal/n0.png,,1"], "line 2 has no label"),
        ([",normal,1"], "line 2 has no path"),
        (["normal/n0.png,tumor,1", "normal/n1.png,normal,1"],
         """'tumor' (1 image). Say it, as in --label "tumor=malignant\""""),
        (["normal/n0.png,normal,1,extra"], "line 2 has 4 cells and the first line 3"),
        (['normal/n0.png,"normal,1'], "is not CSV text"),
        (["normal,normal,1"], "normal is a folder"),
        (["notes.txt,normal,1"], "notes.txt is not a PNG, JPEG, BMP or TIFF image"),
        (["=HYPERLINK(1),normal,1"], "(=HYPERLINK(1)) is missing"),
        (["normal/n0.png,<b>x</b>,1"], "'<b>x</b>' (1 image)"),
    ],
)  # fmt: skip
def test_a_csv_file_that_cannot_be_used_is_refused_with_its_line(tmp_path, root, lines, complaint):
    write(tmp_path / "outside.png", 1)
    (root / "notes.txt").write_text("hello")
    assert complaint in refusal(sheet(root, lines), tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"file,patient\nnormal/n0.png,1\n", "has no column 'label'"),
        (b"what,label\nnormal/n0.png,normal\n", "has no column 'path'"),
        ("path,label,patient\nnormal/n0.png,normal,Müller\n".encode("cp1252"), "is not CSV text: save"),
        (b"path,label,mpp\nnormal/n0.png,normal,250\n", "'250' is not how many micrometres a pixel can have"),
        (b"path,label,mpp\nnormal/n0.png,normal,0.5 um\n", "line 2: '0.5 um' is not how many"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "is not CSV text"),
    ],
)
def test_a_csv_file_that_is_not_one_is_refused(tmp_path, root, content, complaint):
    (root / "labels.csv").write_bytes(content)
    assert complaint in refusal(root, tmp_path)


def test_columns_that_are_not_read_are_named(tmp_path, root, caplog):
    prepare_own("a", sheet(root, LINES, header="path,label,who"), tmp_path / "data")
    assert "the columns who are not read; those that are: path, label" in caplog.text


def test_drawn_names_forget_folder_and_format_where_they_can():
    assert drawn_names(["own-a/x/1.png", "own-a/y/2.JPG", "own-a/2.5", "own-a/3.b.bmp"]) == {
        "own-a/x/1.png": "1.tif",
        "own-a/y/2.JPG": "2.tif",
        "own-a/2.5": "2.5",
        "own-a/3.b.bmp": "3.b.tif",
    }
    assert drawn_names(["own-a/x/1.png", "own-a/y/1.png", "own-a/y/1.jpg", "own-a/z/1.tif"]) == {
        "own-a/x/1.png": "x/1.tif",
        "own-a/y/1.png": "y/1.png",
        "own-a/y/1.jpg": "y/1.jpg",
        "own-a/z/1.tif": "z/1.tif",
    }


def test_a_config_is_recognised():
    assert config_of("clinic-a") == "own-clinic-a"
    assert is_own("own-clinic-a")
    assert not is_own("bach")
    assert not is_own("own-")
    assert not is_own("own-a+own-b")
