import hashlib
import json

import pytest

from bach_keras.fields import PIXELS
from bach_keras.provenance import Provenance
from datasets.errors import UserError

FILES = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}


def digest(letter):
    return hashlib.sha256(letter.encode()).hexdigest()


# Image -> digest; an upper letter has the pixels of the small one.
DIGESTS = {letter: digest(letter.lower()) for letter in "abcdxyABCDXY"}


def provenance(trained_on="ab", chosen_on="c", protocols=("patient",)):
    return Provenance(frozenset(trained_on), frozenset(chosen_on), frozenset(protocols))


def known(trained_on="ab", chosen_on="c"):
    """Return a provenance that knows the pixels of its images."""
    return Provenance.of(DIGESTS, trained_on, chosen_on)


def named(letters):
    return {letter: DIGESTS[letter] for letter in letters}


def test_several_parts_are_joined():
    joined = provenance() | provenance("x", "y", ["paper"])
    assert joined == provenance("abx", "cy", ["paper", "patient"])


def test_a_leak_is_refused_and_named():
    with pytest.raises(UserError, match=r"1 of these 2 images trained a member of this system \(b\)"):
        provenance().check_leaks(named("bc"))
    provenance().check_leaks(named("cd"))


def test_an_image_is_known_again_by_its_pixels_whatever_it_is_called():
    assert known().trained(named("aBCD")) == {"a": "a", "B": "b"}
    assert known().chosen(named("aBCD")) == {"C": "c"}
    with pytest.raises(UserError, match=r"1 of these 2 images trained a member of this system \(B = b\)"):
        known().check_leaks(named("BC"))


def test_of_an_older_run_names_alone_are_compared_and_their_number_is_known():
    assert provenance().trained(named("aB")) == {"a": "a"}
    assert (provenance().without_pixels, known().without_pixels) == (2, 0)
    assert (provenance("ax") | known()).without_pixels == 1


def test_an_image_that_was_saved_again_is_still_the_one_that_trained():
    with pytest.raises(UserError, match=r"\(a with other pixels\)"):
        known().check_leaks({"a": digest("z")})


OWN = "own-images/benign/1.png"


def test_own_images_of_one_name_and_other_pixels_are_two_images_and_a_note_says_so():
    trained = Provenance.of({OWN: digest("a")}, [OWN], [OWN])
    other = {OWN: digest("z")}
    assert trained.trained(other) == trained.chosen(other) == {}
    trained.check_leaks(other)
    assert "image that trained: 1 image (own-images/benign/1.png). They count as other" in trained.namesakes(other)
    same = {OWN: digest("a"), "own-images/benign/2.png": digest("a")}
    assert trained.trained(same) == dict.fromkeys(same, OWN)
    assert trained.namesakes(same) == known().namesakes({"a": digest("z")}) == ""


def test_own_images_of_one_name_are_one_where_the_pixels_of_either_are_not_known():
    for trained, judging in ((Provenance.of({OWN: digest("a")}, [OWN]), ""), (provenance([OWN]), digest("z"))):
        assert trained.trained({OWN: judging}) == {OWN: OWN}
        assert trained.namesakes({OWN: judging}) == ""
        with pytest.raises(UserError, match="1 of these 1 images trained a member"):
            trained.check_leaks({OWN: judging})


def test_an_own_image_with_the_pixels_of_another_one_is_called_by_the_name_of_that():
    trained = Provenance.of({OWN: digest("a"), "b": digest("b")}, [OWN, "b"])
    assert trained.trained({OWN: digest("b")}) == {OWN: "b"}


def test_images_of_both_pixels_of_a_name_have_trained():
    changed = known() | Provenance.of({"a": digest("z")}, "a")
    assert changed.trained({"new": digest("z"), "old": digest("a")}) == {"new": "a", "old": "a"}
    assert Provenance.read(json.loads(json.dumps(changed.fields))) == changed


def test_what_files_say_is_read_back_and_is_taken_by_them():
    fields = (known() | Provenance.of({"a": digest("z")}, "a")).fields
    assert Provenance.read(fields) == known() | Provenance.of({"a": digest("z")}, "a")
    assert PIXELS.fits(fields["pixels"])
    for wrong in ({"a": ""}, {"a": 1}, {"a": "0123456789abcde"}, {"a": "0123456789abcdef,"}, ["0123456789abcdef"]):
        assert not PIXELS.fits(wrong)


def test_the_choice_alone_has_trained_nothing():
    assert known().choice == Provenance.of(DIGESTS, chosen="c")


def test_only_a_few_of_many_images_are_named():
    seen = known("abcdxy").trained(named("abcdxy"))
    assert known("abcdxy").in_words(seen, DIGESTS) == "a, b, c, d, x and 1 more"


def test_a_system_that_does_not_say_what_trained_it_is_refused():
    with pytest.raises(UserError, match="does not say which images trained it"):
        Provenance().check_leaks(named("a"))


def test_one_split_is_not_mixed_with_itself_or_with_images_of_another_config():
    assert provenance().mixed_with("patient", FILES, DIGESTS) == ""
    assert provenance("aXY", "Z", ["patient", ""]).mixed_with("patient", FILES, DIGESTS) == ""


def test_members_of_other_protocols_are_named():
    mixed = provenance(protocols=["paper", "patient", "all"]).mixed_with("patient", FILES, DIGESTS)
    assert "trained under all, paper." in mixed


@pytest.mark.parametrize(("trained_on", "chosen_on"), [("abc", ""), ("a", "b")])
def test_members_of_another_split_of_the_protocol_are_known_by_their_images(trained_on, chosen_on):
    assert "another split than this one by patient" in provenance(trained_on, chosen_on).mixed_with(
        "patient", FILES, DIGESTS
    )


def test_copies_of_a_split_are_of_that_split():
    files = {name: [letter.upper() for letter in held] for name, held in FILES.items()}
    assert known().mixed_with("patient", files, DIGESTS) == ""
    assert "another split" in known("abc").mixed_with("patient", files, DIGESTS)
