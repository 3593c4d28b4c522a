import pytest

from datasets.patients import read_patients

ROWS = {"b001.tif": "7", "n100.tif": "P 2", "iv003.tif": "7"}


@pytest.mark.parametrize(
    "text",
    [
        "filename,patient\nb001.tif,7\nn100.tif,P 2\niv003.tif,7\n",
        "b001.tif,7\nn100.tif,P 2\niv003.tif,7\n",
        "\ufeffImage Name;Patient ID\r\nb001;7\r\n N100 ; P 2\r\n\r\niv003.tiff;7\r\n;\r\n",
        "patient_id\tclass\timage\n7\tBenign\tPhotos/Benign/b001.tif\nP 2\t\tNormal\\n100.tif\n7\t\tIV003.TIF\n",
        'filename,patient\nb001.tif,"7"\nn100.tif,P 2\niv003.tif,7\nb001.tif,7\n',
    ],
    ids=["plain", "no header", "spreadsheet", "other columns", "said twice alike"],
)
def test_a_sheet_is_read_however_it_is_written(tmp_path, text):
    path = tmp_path / "sheet.csv"
    path.write_bytes(text.encode())
    assert read_patients(path) == ROWS


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("filename,patient\n", "names no patient"),
        ("file name,slide\nb001.tif,7\n", "no column 'patient': its first line is 'file name,slide'"),
        ("slide,patient\nb001.tif,7\n", "no column 'filename'"),
        ("b001.tif\n", "line 1: 'b001.tif' is not an image and its patient"),
        ("filename,patient\nb001.tif,7\n\nb101.tif,7\n", "line 4: BACH has no image 'b101.tif'"),
        ("filename,patient\nb001.tif, \n", "line 2: b001.tif has no patient: leave the line out"),
        ("b001.tif,7\nB001,8\n", "line 2: b001.tif is of patient 8 here, and of 7 above"),
        ('b001.tif,"7\n', "is no CSV text"),
        ("b001.tif,7\udcff\n", "is no CSV text"),
    ],
)
def test_a_bad_sheet_is_refused_in_one_sentence(tmp_path, text, complaint):
    path = tmp_path / "sheet.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=complaint):
        read_patients(path)


def test_a_missing_sheet_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no sheet of patients .*none\.csv"):
        read_patients(tmp_path / "none.csv")
