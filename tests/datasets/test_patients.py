import pytest

from datasets.catalogue import BACH, BACH_PATIENTS
from datasets.patient_names import is_unknown, patient_key
from datasets.patients import read_patients
from datasets.splits import VALIDATION, leak_note, make_split

UNKNOWN = [
    "", " ", "NA", "na", "N/A", "n.a.", "#N/A", "<NA>", "nan", "NaN", " NAN ", "null", "NULL", "None",
    "unknown", "Unknown",
    "(unknown)", "UNK", "unk.", "not known", "not available", "missing", "?", "??", "-", "--", "–", "—", ".",
    "...", "_", "*",
    "-9", "-99", "-1", "#NULL!", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "NaT", "\u00a0", "\u200b", "ＮＡ",
    "P NA", "1.#QNAN",
    "-1.#IND", ".a", "n.d.", "unknown patient", "patient unknown", "unbekannt", "'NA'",
    "Patient ?", "P?", "ID -", "anon",
]  # fmt: skip
ONE_PATIENT = [
    ["P1", "p1", "P 1", "P-1", "P-001", "p_01", "P001", "1", "01", "001", "1.0", "1.00", "1,0", "1e0", "１",
     "Ｐ１", "P\u200b1",
     "P\u00a01", "Patient 1", "patient no. 1", "#1", "pat1", "١"],
    ["Anna Maria", "anna  maria", "AnnaMaria", "ANNA-MARIA", "Anna_Maria."],
    ["Müller", "Mu\u0308ller", "MÜLLER", "müller "],
    ["120000", "1.2E+05", "120000.0", "0120000"],
    ["1-12", "1/12", "01-12", "1 12"],
    ["0", "000", "0.0"],
    ["A12b", "a-12-B", "A 012 b"],
]  # fmt: skip
MANY_PATIENTS = [
    "1", "2", "10", "11", "100", "1-1", "1-12", "11-2", "112", "A1", "B1", "1A", "A", "B", "12345678901234567890",
    "12345678901234567891", "Anna", "Ann", "a1b2", "a12b", "0", "1.5",
]  # fmt: skip

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
        ("filename,patient\nb001.tif, \nb002.tif,NA\n", "names no patient"),
        ("b001.tif,7\nB001,8\n", "line 2: b001.tif is of patient 8 here, and of 7 above"),
        ('b001.tif,"7\n', "is not CSV text"),
        ("b001.tif,7\udcff\n", "is not CSV text"),
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


@pytest.mark.parametrize("cell", UNKNOWN)
def test_what_says_that_a_patient_is_not_known_names_none(cell):
    assert is_unknown(cell)


@pytest.mark.parametrize("spellings", ONE_PATIENT, ids=lambda spellings: spellings[0])
def test_spellings_of_one_patient_are_one(spellings):
    assert len(set(map(patient_key, spellings))) == 1
    assert not any(map(is_unknown, spellings))


def test_patients_of_different_numbers_and_names_stay_apart():
    assert len(set(map(patient_key, MANY_PATIENTS))) == len(MANY_PATIENTS)
    assert not any(map(is_unknown, MANY_PATIENTS))


def said(caplog):
    """Return the warnings, but for that a made-up sheet is not what is known of BACH's patients."""
    return [message for message in caplog.messages if "contradicts" not in message]


def sheet_of(tmp_path, patients):
    """Write a sheet of all of BACH, the patients alternating."""
    path = tmp_path / "sheet.csv"
    rows = (f"{record.filename},{patients[i % len(patients)]}\n" for i, record in enumerate(BACH.records))
    path.write_text("filename,patient\n" + "".join(rows))
    return path


@pytest.mark.parametrize("cell", ["NA", "nan", "unknown", "?", "-", ""])
def test_images_of_unknown_patients_always_train_and_are_counted(tmp_path, caplog, cell):
    named = read_patients(sheet_of(tmp_path, [cell, *(f"P{n}" for n in range(9))]))
    assert len(named) == 360
    assert [line.partition(": ")[2] for line in said(caplog)] == [
        "the patients of 40 images are unknown, so these count as images that it does not name."
    ]
    split = make_split(BACH.records, "bach", "patient", patients=named)
    assert not [name for name, part in split.items() if part == VALIDATION and name not in named]
    assert "leaves out 40 of BACH's 400" in leak_note("bach", "patient", named)


def test_what_a_sheet_leaves_out_of_a_patient_it_names_is_on_that_patients_side(tmp_path, caplog):
    patient = max(BACH_PATIENTS.values(), key=list(BACH_PATIENTS.values()).count)
    of_one = sorted(name for name, each in BACH_PATIENTS.items() if each == patient)
    assert len(of_one) > 1
    path = tmp_path / "sheet.csv"
    kept = {name: f"P{each}" for name, each in BACH_PATIENTS.items() if name != of_one[-1]}
    path.write_text("".join(f"{name},{each}\n" for name, each in kept.items()) + f"{of_one[-1]},NA\n")
    named = read_patients(path)
    assert {named[name] for name in of_one} == {f"P{patient}"}
    assert [message.partition(": ")[2] for message in caplog.messages] == [
        "1 image that it leaves out count to the patients that the organisers' list of BACH's patients "
        "(datasets/bach_patients.csv) has them of, and whose other images it names."
    ]


def test_a_patient_is_on_one_side_however_it_is_spelled_and_what_was_joined_is_listed(tmp_path, caplog):
    patients = ["P1", "p1", "003", "3", "3.0", *map(str, range(10, 20))]
    named = read_patients(sheet_of(tmp_path, patients))
    assert len(set(named.values())) == 12
    assert [line.partition(": ")[2] for line in said(caplog)] == [
        "spellings were joined, each of these lists being one patient: 003 = 3 = 3.0; P1 = p1."
    ]
    split = make_split(BACH.records, "bach", "patient", patients=named)
    for spellings in ({"P1", "p1"}, {"003", "3", "3.0"}):
        of_one = {r.filename for i, r in enumerate(BACH.records) if patients[i % len(patients)] in spellings}
        assert len({split[name] for name in of_one}) == 1


def test_the_order_of_the_lines_does_not_change_a_split(tmp_path):
    path = sheet_of(tmp_path, ["P1", "p1", "P2", "p 2", "P3", "P4"])
    first = read_patients(path)
    head, *rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([head, *rows[::-1]]))
    assert read_patients(path) == first


def test_a_sheet_without_oddities_says_nothing(tmp_path, caplog):
    path = tmp_path / "sheet.csv"
    # The known patients by other names, and two images that the organisers left out, one of them of a known patient.
    rows = BACH_PATIENTS | {"n001.tif": "90", "n002.tif": "14"}
    path.write_text("".join(f"{filename},A{patient}\n" for filename, patient in rows.items()))
    assert len(read_patients(path)) == 147
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"b032.tif": "90"}, "11 is split into 11, 90. The sheet"),
        (
            {"b051.tif": "31", "b032.tif": "31"},
            "11 is split into 11, 31; 17 is split into 17, 31; 11, 17, 31 are one, 31",
        ),
        (dict.fromkeys(BACH_PATIENTS, "1"), "11, 12, 13, 14 and 25 more are one, 1. The sheet"),
        ({name: name for name in BACH_PATIENTS}, "and 21 more. The sheet"),
    ],
)
def test_a_sheet_that_contradicts_the_known_patients_is_used_with_a_warning(tmp_path, caplog, changed, sentence):
    path = tmp_path / "sheet.csv"
    path.write_text("".join(f"{name},{patient}\n" for name, patient in (BACH_PATIENTS | changed).items()))
    assert read_patients(path) == BACH_PATIENTS | changed
    [warning] = caplog.messages
    assert f"{path} contradicts the organisers' list of BACH's patients" in warning
    assert sentence in warning


def test_a_warning_says_what_was_joined(tmp_path, caplog):
    read_patients(sheet_of(tmp_path, ["1", "01"]))
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert "being one patient: 01 = 1" in said(caplog)[0]


def test_a_patient_that_one_line_knows_is_known(tmp_path, caplog):
    path = tmp_path / "sheet.csv"
    path.write_text("b001.tif,NA\nb001.tif,7\nb002.tif,7\nb002.tif,?\nB001,07\n")
    assert read_patients(path) == {"b001.tif": "07", "b002.tif": "07"}
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_delimiters_and_line_ends_of_spreadsheets_are_read(tmp_path, encoding, delimiter, end):
    path = tmp_path / "sheet.csv"
    lines = [["file name", '"patient"'], ['"b001.tif"', "7"], ["n100.tif", '"P 2"'], ["iv003.tif", "7"]]
    path.write_bytes(end.join(delimiter.join(cells) for cells in [*lines, []]).encode(encoding))
    assert read_patients(path) == ROWS


def test_a_delimiter_in_quotes_and_excels_first_line_are_understood(tmp_path):
    path = tmp_path / "sheet.csv"
    for text in (
        "sep=;\nfilename;patient\nb001;7\n",
        '"patient","filename"\n"7","b001"\n',
        '"a, b, c";patient;file\n;7;b001\n',
    ):
        path.write_text(text)
        assert read_patients(path) == {"b001.tif": "7"}
