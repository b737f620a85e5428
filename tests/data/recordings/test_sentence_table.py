"""Sentences from tables as labs have them: formats, names, units, grouping, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
import spoken_tables as tables
from hypothesis import given, settings
from spoken_tables import FORMATS, LENGTH_S, RATE_HZ, SENTENCES, Sentence, Word

from ssense.data.recordings.sentence_table import (
    SpokenSentences,
    read_sentence_table,
    spoken_sentences,
)
from ssense.data.recordings.tables.table_spec import TableSpec
from ssense.errors import UserError


@pytest.fixture
def read(tmp_path):
    def read_content(
        content: str | bytes,
        name: str = "table.csv",
        rate: float | None = RATE_HZ,
        length: float | None = LENGTH_S,
        **fields: Any,
    ) -> SpokenSentences:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_sentence_table(path, TableSpec(**fields), rate, length)

    return read_content


@pytest.fixture
def refusal(read, tmp_path):
    def message(content: str | bytes, name: str = "table.csv", **given: Any) -> str:
        with pytest.raises(UserError) as refused:
            read(content, name, **given)
        said = str(refused.value)
        assert said.isprintable(), repr(said)
        assert said.endswith(".")
        assert len(said) < 600
        return said.replace(f"{tmp_path}/", "")

    return message


def check(found: SpokenSentences, expected: tuple[Sentence, ...], speakers: bool = False) -> None:
    assert found.text == tuple(each.text for each in expected)
    np.testing.assert_allclose(found.onset_s, [x.onset_ms / 1000 for x in expected], atol=1e-9)
    np.testing.assert_allclose(found.offset_s, [x.offset_ms / 1000 for x in expected], atol=1e-9)
    wanted = tuple(each.speaker if speakers else "" for each in expected)
    assert found.speaker == wanted
    assert all(len(values) == len(found) for values in found.extra.values())


# ---------------------------------------------------------------- formats


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_sentences_are_read_from_every_format(name, read):
    form = FORMATS[name]
    found = read(form.content(SENTENCES), form.name, **form.fields)
    check(found, SENTENCES, form.speakers)
    assert found.understood


@pytest.mark.parametrize("words", [False, True])
def test_a_data_frame_and_a_mapping_are_tables_too(words):
    if words:
        rows = [(w.onset_ms / 1e3, w.offset_ms / 1e3, w.text) for x in SENTENCES for w in x.words]
    else:
        rows = [(x.onset_ms / 1e3, x.offset_ms / 1e3, x.text) for x in SENTENCES]
    frame = pd.DataFrame(rows, columns=["onset", "end", "word" if words else "text"])
    frame.index = frame.index[::-1]  # which nothing depends on
    for table in (frame, {name: list(frame[name]) for name in frame}, frame.to_dict("list")):
        check(spoken_sentences(table, "sentences", TableSpec(), RATE_HZ, LENGTH_S), SENTENCES)


def test_time_spans_and_absent_values_of_pandas_are_understood():
    frame = pd.DataFrame(
        {
            "onset": pd.to_timedelta([1.5, 100.25, None, 110], unit="s"),
            "duration": [1, 2, 3, pd.NA],
            "text": ["one two", "three four", "five six", "seven eight"],
            "speaker": ["ann", None, "bob", "bob"],
            "rating": [1.5, np.nan, 2.0, 3.0],
        }
    )
    found = spoken_sentences(frame, "sentences", TableSpec(), RATE_HZ, LENGTH_S)
    assert found.text == ("one two", "three four")
    np.testing.assert_allclose(found.onset_s, [1.5, 100.25])
    np.testing.assert_allclose(found.offset_s, [2.5, 102.25])
    assert found.speaker == ("ann", "")
    np.testing.assert_equal(found.extra["rating"], (1.5, np.nan))
    assert "2 sentences have no known time and are left out (first row 2)." in found.doubts


def test_importing_it_imports_neither_pandas_nor_torch():
    script = (
        "import sys, ssense.data.recordings.sentence_table as t; t.TableSpec();"
        "print(sorted({'pandas', 'torch', 'mne', 'ray'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


# Lines of two data sets of bids-examples (PDDL 1.0): ieeg_visual, sub-01; ieeg_visual_multimodal,
# sub-som682, task-spatialpattern.
VISUAL = """onset\tduration\ttrial_type\tstim_file
17.8533\t0.5\t5\tstim_129.png
18.35564\t0.5\t8\tstim_211.png
18.85764\t0.5\t2\tstim_36.png
"""
MULTIMODAL = """onset\tduration\tISI\ttrial_type\ttrial_name\tstim_file\tsample
3\t0.5\t0\t109\tCRF-3\tstim_109_CRF-3_01.png\t1536
4.4336\t0.5\t0\t107\tCRF-1\tstim_107_CRF-1_02.png\t2270
6.0684\t0.5\t0\t112\tGRATING\tstim_112_GRATING_02.png\t3107
7.3516\t0.5\t0\t116\tSPARSITY-2\tstim_116_SPARSITY-2_02.png\t3764
"""


def test_events_of_bids_without_a_text_are_refused_with_their_columns(refusal):
    assert refusal(VISUAL, "sub-01_events.tsv") == (
        "sub-01_events.tsv has no column known as text; trial_type holds numbers only. Found: "
        "onset, duration, trial_type, stim_file. Set `text` to the name of its column."
    )


def test_events_of_bids_keep_their_other_columns_and_samples_corroborate(read):
    given = {"name": "sub-som682_events.tsv", "text": "trial_name", "grouping": "none"}
    found = read(MULTIMODAL, rate=512.0, **given)
    assert found.text == ("CRF-3", "CRF-1", "GRATING", "SPARSITY-2")
    np.testing.assert_allclose(found.onset_s, [3, 4.4336, 6.0684, 7.3516])
    np.testing.assert_allclose(found.offset_s - found.onset_s, 0.5)
    assert set(found.extra) == {"ISI", "trial_type", "stim_file", "sample"}
    assert found.extra["sample"] == (1536, 2270, 3107, 3764)
    assert "The column sample agrees with the onsets." in found.understood
    doubts = read(MULTIMODAL, rate=500.0, **given).doubts
    assert any("rate is 512 Hz" in doubt and "500 Hz" in doubt for doubt in doubts)


def test_words_of_whisperx_without_times_stay_in_their_sentence(read):
    words = [
        {"word": "In", "start": 1.0, "end": 1.2, "speaker": "A"},
        {"word": "2014"},
        {"word": "it", "start": 2.0, "end": 2.1, "speaker": "A"},
        {"word": "rained.", "start": 2.1, "end": 2.6, "speaker": "A"},
        {"word": "7."},
    ]
    found = read(
        json.dumps({"segments": [{"text": "", "start": 1, "end": 3, "words": words}]}),
        grouping="punctuation",
    )
    assert found.text == ("In 2014 it rained.",)
    assert (found.onset_s[0], found.offset_s[0]) == (1.0, 2.6)
    assert found.speaker == ("A",)
    assert any("no known time" in doubt for doubt in found.doubts)


def test_silence_is_no_doubt_and_an_empty_text_is(read):
    grid = tables.aligner(SENTENCES)
    assert read(grid, "a.TextGrid").doubts == ()
    found = read("start,end,text\n1,2,Hello there\n3,4,\n5,6, n/a\n7,8.5,Bye now\n")
    assert found.text == ("Hello there", "Bye now")
    assert found.doubts == ("2 rows have no text and are left out.",)


# ---------------------------------------------------------------- names and columns


@pytest.mark.parametrize(
    "header",
    [
        "onset,offset,text",
        "Start,Stop,Sentence",
        "begin_time,end_time,transcript",
        "tmin,tmax,label",
        "xmin,xmax,text",
        "t_start,t_end,utterance",
        "startTime,endTime,transcription",
        "start (s),end (s),value",
        "sentence_onset,sentence_offset,sentence",
        "from,to,annotation",
        "  START TIME , End Time,Stimulus Text",
        "onset_sec,end_sec,description",
        "time,end,stimulus",
    ],
)
def test_names_that_people_use_are_known(header, read):
    found = read(f"{header}\n1.5,2.5,Hello there\n3.25,4.5,Bye now\n")
    assert found.text == ("Hello there", "Bye now")
    np.testing.assert_array_equal(found.onset_s, [1.5, 3.25])
    np.testing.assert_array_equal(found.offset_s, [2.5, 4.5])


@pytest.mark.parametrize(
    ("header", "fields"),
    [
        ("Anfang,Dauer,Satz", "Set `onset`, `offset` or `duration`, `text` to the names"),
        ("début,fin,phrase", "Set `onset`, `offset` or `duration` to the names of their"),
        ("inicio,duración,texto", "Set `onset`, `offset` or `duration`, `text` to the names"),
        ("onset,rating,text", "Set `offset` or `duration` to the name of its column"),
    ],
)
def test_a_header_in_another_language_is_refused_with_the_columns_and_fields(
    header, fields, refusal
):
    said = refusal(f"{header}\n1.5,2.5,Hello there\n")
    assert fields in said
    assert f"Found: {header.replace(',', ', ')}." in said


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("onset,end,text,transcript", "may be the text: text, transcript. Set `text`"),
        ("onset,start,end,text", "may be the onset: onset, start. Set `onset`"),
        ("onset,end,text,text", "several columns text"),
        ("onset,,text,", "no column known as end or duration. Found: onset, column 2, text"),
    ],
)
def test_several_columns_that_may_be_meant_are_refused(header, message, refusal):
    assert message in refusal(f"{header}\n1.5,2.5,Hello there,Hello\n")


def test_a_field_settles_what_names_leave_open_and_must_name_a_column(read, refusal):
    content = "onset,end,text,transcript\n1.5,2.5,Hello there,hello\n"
    found = read(content, text="transcript", grouping="none")
    assert found.text == ("hello",)
    assert found.extra == {"text": ("Hello there",)}
    assert "no column satz, which `text` names. Found: onset, end, text" in refusal(
        content, text="satz"
    )


def test_one_column_is_not_read_for_two_things(read, refusal):
    content = "onset,end,text\n1.5,2.5,Hello there\n"
    said = "table.csv: `onset` and `{}` both name the column onset. Set one of them to another"
    for role in ("offset", "duration", "text", "speaker", "group"):
        assert said.format(role) in refusal(content, **{"onset": "onset", role: "onset"})
    # Without a header cells say what columns are, but for one that a field names.
    found = read("1.5,2.5,Hello there\n3.5,4.5,Bye now\n5,6,Once more\n", duration="column 2")
    np.testing.assert_array_equal(found.offset_s, [4.0, 8.0, 11.0])


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"text": [0, 1, 2]}, "; text holds numbers only. Found: onset, end, text. Set `text`"),
        ({"Text": ["0", "n/a", "2"]}, "; Text holds numbers only."),
        ({"word": ["7", "8", "9"], "value": [1, 2, 3]}, "; word holds numbers only; value holds"),
        ({"text": [["Hello", "there"], "a", "b"]}, "; text holds lists."),
        ({"text": [np.array(["Hello", "you"])] * 3}, "; text holds lists."),
    ],
)
def test_a_text_that_is_none_is_said(columns, why):
    table = {"onset": [1.5, 3.5, 5.5], "end": [2.5, 4.5, 6.5], **columns}
    with pytest.raises(UserError, match=f"has no column known as text{re.escape(why)}"):
        spoken_sentences(table, "sentences", TableSpec(), RATE_HZ, LENGTH_S)


def test_a_text_that_is_none_can_be_set_if_it_is_of_numbers_but_not_of_lists(read, refusal):
    numbers = read("onset,end,text\n1.5,2.5,7\n3.5,4.5,8\n", text="text", grouping="none")
    assert numbers.text == ("7", "8")
    listed = json.dumps([{"onset": 1.5, "end": 2.5, "text": ["Hello", "there"], "said": "Hi you"}])
    assert "no column known as text; text holds lists. Found: onset, end, said." in refusal(listed)
    assert "column text, which `text` names, holds lists. Set `text`" in refusal(
        listed, text="text"
    )
    assert read(listed, text="said", grouping="none").text == ("Hi you",)
    table = {"onset": [1.5], "end": [2.5], "text": [("Hello", "there")]}
    with pytest.raises(UserError, match="column text, which `text` names, holds lists"):
        spoken_sentences(table, "sentences", TableSpec(text="text"), RATE_HZ, LENGTH_S)


def test_texts_and_names_may_be_bytes_of_utf8():
    texts = ["Grüß Gott!", "How are you?", "Fine."]
    table = {
        b"onset": [1.0, 2.0, 3.0],
        "end": np.array([b"1.8", b"2.8", b"3.8"]),
        "text": np.array([text.encode() for text in texts]),
        "place": [b"here", "there", None],
    }
    found = spoken_sentences(table, "sentences", TableSpec(), RATE_HZ, LENGTH_S)
    assert found.text == tuple(texts)
    assert found.extra == {"place": ("here", "there", "")}
    table["text"] = np.array([text.encode("latin-1") for text in texts])
    with pytest.raises(
        UserError, match=r"row 0 of column text is b'Gr.*, bytes that are not UTF-8"
    ):
        spoken_sentences(table, "sentences", TableSpec(), RATE_HZ, LENGTH_S)


def test_codes_are_no_texts_and_text_is_preferred_to_labels(read):
    found = read(
        "onset,duration,value,trial_type,word\n1.5,0.5,7,listen,Hello\n2.5,0.5,8,listen,you.\n"
    )
    assert found.text == ("Hello you.",)
    assert found.extra == {"value": (7,), "trial_type": ("listen",)}


def test_other_columns_are_kept_as_numbers_where_they_are(read):
    found = read(
        "onset,end,text,code,rms,note\n1.5,2.5,Hi there,007,0.5,a\n3.5,4,Bye now,010,n/a,\n"
    )
    assert found.extra["code"] == ("007", "010")
    np.testing.assert_equal(found.extra["rms"], (0.5, np.nan))
    assert found.extra["note"] == ("a", "")


# ---------------------------------------------------------------- times and their units


@pytest.mark.parametrize(
    ("rows", "rate", "length", "unit"),
    [
        # 1 s for 15 characters, written in each unit.
        ("2.5,1.0;8.0,1.0", 512, 20, "seconds"),
        ("2,1;8,1", 512, 20, "seconds"),
        ("2,1;8,1", None, None, "seconds"),
        ("2500.5,1000;8000,1000", 512, 20, "milliseconds"),
        ("2500,1000;8000,1000", 1000, 20, "milliseconds"),  # or samples, which are the same
        ("18000,1000;25000,1000", 512, 30, "milliseconds"),  # samples would lie beyond it
        ("51200,20480;163840,20480", 20480, 20, "samples"),
    ],
)
def test_the_unit_is_the_only_one_that_nothing_excludes(rows, rate, length, unit, read):
    lines = "".join(f"{row},how do you do ?\n" for row in rows.split(";"))
    found = read(f"onset,duration,text\n{lines}", rate=rate, length=length)
    scale = {"seconds": 1, "milliseconds": 1e-3, "samples": 1 / (rate or 1)}[unit]
    expected = [float(row.split(",")[0]) * scale for row in rows.split(";")]
    np.testing.assert_allclose(found.onset_s, expected)
    assert any(f"Times are in {unit}: " in said for said in found.understood)


@pytest.mark.parametrize(
    ("rows", "rate", "length", "units"),
    [
        ("2500,1000;8000,1000", 512, 60, "milliseconds or in samples"),
        ("10,10;30,10", 8, 60, "seconds or in samples"),
        ("100,50;300,50", 100, 600, "seconds or in samples"),
    ],
)
def test_units_that_cannot_be_told_apart_are_refused(rows, rate, length, units, refusal):
    lines = "".join(f"{row},how do you do ?\n" for row in rows.split(";"))
    said = refusal(f"onset,duration,text\n{lines}", rate=rate, length=length)
    assert f"its times may be in {units}; nothing excludes either. Set `time_unit`" in said


def test_a_unit_that_is_set_or_named_is_taken(read):
    rows = "2500,1000,how do you do ?\n8000,1000,how do you do ?\n"
    by_field = read(f"onset,duration,text\n{rows}", rate=512.0, time_unit="samples")
    np.testing.assert_allclose(by_field.onset_s, [2500 / 512, 8000 / 512])
    by_header = read(f"onset_sample,duration_samples,text\n{rows}", rate=512.0)
    np.testing.assert_allclose(by_header.onset_s, by_field.onset_s)
    mixed = read("onset_ms,duration_s,text\n2500,1.0,how do you do ?\n", rate=512.0)
    np.testing.assert_allclose([mixed.onset_s[0], mixed.offset_s[0]], [2.5, 3.5])


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (
            "onset\tduration\ttext\n2500\t1000\thow do you do ?\n8000\t1500\thow do you do\n",
            "sub-01_events.tsv",
            "should be in seconds by the format or the header, but speech would have 0.0118 "
            "characters per second; they look like milliseconds or samples",
        ),
        (
            "onset_ms,duration_ms,text\n2.5,1.5,how do you do ?\n8.0,1.5,how do you do\n",
            "table.csv",
            "should be in milliseconds by the format or the header, but speech would have",
        ),
        (
            "start,end,text\n2500.5,2501.5,how do you do ?\n",
            "table.csv",
            "in seconds the last would end at 2501.5 s of a recording of 120 s",
        ),
        (
            "onset,duration,text\n1,0.00001,how do you do ?\n",
            "table.csv",
            "make no sense in any unit",
        ),
        (
            "start,end,text\n14:03:20,14:03:22,how do you do ?\n",
            "table.csv",
            "no sentence lies within the recording of 120 s; they are said from 50600 to 50602 s",
        ),
    ],
)
def test_a_unit_that_contradicts_the_recording_is_refused(content, name, message, refusal):
    assert message in refusal(content, name)


@pytest.mark.parametrize("column", ["duration", "end"])
@pytest.mark.parametrize(("apart_s", "length_s"), [(3.0, 2.0), (0.35, 0.25), (30.0, 1.5)])
def test_a_column_in_another_unit_than_the_others_is_refused(
    column, apart_s, length_s, read, refusal
):
    onset_s = apart_s * np.arange(1, 21)
    last = length_s if column == "duration" else onset_s + length_s
    for scale in (1, 1000):
        rows = zip(onset_s, np.broadcast_to(scale * last, 20), strict=True)
        lines = "".join(f"{a:.3f},{b:.3f},how do you do\n" for a, b in rows)
        if scale == 1:
            assert len(read(f"onset,{column},text\n{lines}", length=900.0)) == 20
            continue
        said = refusal(f"onset,{column},text\n{lines}", length=900.0)
        assert f"its rows begin {apart_s:.4g} apart and last" in said
        assert f"by the columns onset, {column}, as if one of these were in seconds" in said
        assert "as in onset_s and duration_ms" in said
        both = read(f"onset_s,{column}_ms,text\n{lines}", length=900.0)
        np.testing.assert_allclose(both.offset_s - both.onset_s, length_s)


def test_people_who_speak_at_once_are_not_taken_for_another_unit(read):
    rows = "".join(
        f"{3 * i + 0.1 * who:.1f},2.5,how do you do,{who}\n" for i in range(12) for who in range(5)
    )
    found = read(f"onset,duration,text,speaker\n{rows}")
    assert len(found) == 60
    assert any("overlap" in doubt for doubt in found.doubts)


def test_samples_without_a_rate_are_refused(refusal):
    content = "onset,duration,text\n2500,1000,how do you do ?\n"
    said = refusal(content, rate=None, time_unit="samples")
    assert "samples are no times without a sampling rate. Give the sampling rate" in said


def test_times_beyond_the_recording_are_a_doubt_if_others_are_within(read):
    content = "start,end,text\n-1.0,1.5,How are you\n5.5,7.0,How are you\n119.5,121.5,How are you\n"
    assert read(content).doubts == (
        "1 sentence begins before the recording (row 2).",
        "1 sentence ends after the recording, which lasts 120 s (row 4).",
    )


@pytest.mark.parametrize(
    ("rows", "onsets"),
    [
        ("1,5;2,25", [1.5]),
        ("0,500;1,250", [0.5]),  # no thousands: it begins with a zero
        ("1,500;2,250|3,25;4,5", [1.5, 3.25]),  # no thousands: two decimals
        ("1;2,25", [1.0]),
    ],
)
def test_decimal_commas_are_understood_where_they_can_be_nothing_else(rows, onsets, read):
    lines = "".join(f"{row};how do you do\n" for row in rows.split("|"))
    for delimiter in (";", "\t"):
        found = read(f"onset;end;text\n{lines}".replace(";", delimiter))
        np.testing.assert_array_equal(found.onset_s, onsets)
        assert "Decimals are written with commas." in found.understood


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("onset;end;text\n1,500;2,250;how do you do\n", '"1,500" in column onset is not a time'),
        ("onset;end;text\n1,5;2.5;how do you do\n", "Write decimals with points"),
        ("onset;end;text\n1.234,5;2;how do you do\n", "Write decimals with points"),
        ("onset,end,text\n1,5,2,5,how do you do\n", "row 2 has 5 cells, the first row 3"),
    ],
)
def test_decimal_commas_that_may_be_something_else_are_refused(content, message, refusal):
    assert message in refusal(content)


@pytest.mark.parametrize(
    ("cell", "seconds"),
    [("0:01:02.5", 62.5), ("1:02,25", 62.25), ("00:01:02", 62.0), ("01:40.125", 100.125)],
)
def test_clock_times_are_seconds(cell, seconds, read):
    found = read(f"start\tduration\ttext\n{cell}\t1.5\thow do you do\n")
    assert found.onset_s.tolist() == [seconds]
    assert found.offset_s.tolist() == [seconds + 1.5]


@pytest.mark.parametrize(
    "cell", ["inf", "-inf", "abc", "1e999", "1_0", "０", "12:75", "1:2:3:4", "true", "0x10", "1 2"]
)
def test_what_is_no_time_is_refused_with_its_row(cell, refusal):
    said = refusal(f"start,end,text\n1,2.5,how do you do\n{cell},4.5,how do you do\n")
    assert said.startswith(f'table.csv: row 3: "{cell}" in column start is not a time. Write')


@pytest.mark.parametrize("cell", ["", "n/a", "NaN", "NA", "None", "--undefined--"])
def test_an_absent_time_leaves_a_sentence_out_and_is_said(cell, read):
    found = read(f"start,end,text\n1,2.5,how do you do\n{cell},4.5,how do you do\n")
    assert len(found) == 1
    assert found.doubts == ("1 sentence has no known time and is left out (row 3).",)


# ---------------------------------------------------------------- words that form sentences


def words(
    *rows: tuple[float, float, str] | tuple[float, float, str, object], last: str = ""
) -> str:
    header = f"onset,end,word{',' * bool(last)}{last}"
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)])


def test_gaps_longer_than_the_field_part_sentences(read):
    content = words(
        (1, 1.4, "how"), (1.5, 2, "are"), (2.5, 3, "you"), (3.8, 4.2, "fine"), (4.2, 4.5, "thanks")
    )
    assert read(content).text == ("how are you", "fine thanks")
    assert read(content, gap_s=0.4).text == ("how are", "you", "fine thanks")
    assert read(content, gap_s=5.0).text == ("how are you fine thanks",)
    assert read(content, grouping="none").text == ("how", "are", "you", "fine", "thanks")
    assert "5 words were grouped by gaps over 0.7 s." in read(content).understood


def test_a_gap_is_measured_from_the_word_that_lasts_longest(read):
    content = words((1, 3.0, "long"), (1.5, 2, "short"), (3.2, 3.6, "next"))
    assert read(content).text == ("long short next",)


def test_punctuation_parts_sentences_and_titles_do_not(read):
    said = 'Dr. Who met J. R. Ewing. "Really so?" she said . Yes! ( Or no ) 3.5 is it…'
    content = "onset\tend\tword\n" + "".join(
        f"{i}\t{i + 0.4}\t{word}\n" for i, word in enumerate(said.split(), 1)
    )
    assert read(content, grouping="punctuation").text == (
        "Dr. Who met J. R. Ewing.",
        '"Really so?"',
        "she said.",
        "Yes!",
        "( Or no) 3.5 is it…",
    )


def test_a_column_groups_words_whatever_their_order(read):
    content = words(
        (5, 5.4, "fine", "b"),
        (2, 2.4, "you", "a"),
        (1, 1.4, "are", "a"),
        (8, 8.5, "um", ""),
        last="sentence_idx",
    )
    found = read(content)
    assert found.text == ("are you", "fine")
    assert found.onset_s.tolist() == [1, 5]
    assert found.extra == {"sentence_idx": ("a", "b")}
    assert "1 word has no number of a sentence." in found.doubts
    assert read(content.replace("sentence_idx", "trial"), group="trial").text == ("are you", "fine")


@pytest.mark.parametrize("line", ["sep=,", '"sep=,"', "SEP=,,,"])
def test_the_separator_may_be_said_in_a_line_before_the_header(line, read):
    """As Excel wants it; here semicolons would make a table too, of two columns."""
    found = read(f"{line}\r\nonset,end,text;\r\n1.5,2.5,How are you; there?\r\n")
    assert found.text == ("How are you; there?",)
    assert "Columns are separated by commas." in found.understood


def test_scripts_without_blanks_are_sentences_unless_the_column_says_words(read):
    assert read("start,end,text\n1.5,2.5,你好吗\n2.6,4,我很好\n").text == ("你好吗", "我很好")
    rows = ("1.5,1.7,你", "1.7,2.1,好 ", "2.1,2.3,。", "2.4,3,我们", "3,3.5,ok", "3.5,4,嗎")
    assert read("\n".join(["start,end,word", *rows])).text == ("你好。", "我们 ok 嗎")


def test_half_of_a_movies_gaps_between_sentences_are_over_the_default():
    path = Path(__file__).parents[1] / "antman_sentence_timings.csv"
    timings = pd.read_csv(path)
    gap_s = timings["onset_s"].to_numpy()[1:] - timings["offset_s"].to_numpy()[:-1]
    assert np.mean(gap_s > TableSpec().gap_s) == pytest.approx(0.5, abs=0.02)


def test_words_that_overlap_are_a_doubt(read):
    content = words((1, 1.4, "how"), (1.38, 1.8, "are"), (1.6, 2.1, "you"))
    assert read(content).doubts == ("1 word overlaps the one before it (first row 4).",)


def test_segments_that_are_parts_of_sentences_are_a_doubt(read):
    texts = ("How are", "you today?", "Fine.")
    segments = [
        {"start": i, "end": i + 0.9, "text": f" {text}", "words": [
            {"word": f" {word}", "start": i + 0.4 * j, "end": i + 0.4 * j + 0.4}
            for j, word in enumerate(text.split())
        ]}
        for i, text in enumerate(texts, 1)
    ]  # fmt: skip
    content = json.dumps({"segments": segments})
    assert read(content).text == texts
    (doubt,) = read(content).doubts
    assert "1 of 3 segments do not end as sentences do: set `grouping`" in doubt
    grouped = read(content, grouping="punctuation")
    assert (grouped.text, grouped.doubts) == (("How are you today?", "Fine."), ())


def test_another_speaker_begins_another_sentence(read):
    content = words(
        (1, 1.4, "how", "A"), (1.5, 2, "are", "A"), (2, 2.5, "fine", "B"), last="speaker"
    )
    found = read(content)
    assert found.text == ("how are", "fine")
    assert found.speaker == ("A", "B")


@pytest.mark.parametrize(
    ("rows", "fields", "message"),
    [
        (
            [(1, 1.4, "how", 0), (1.5, 2, "are", 1), (90, 90.5, "you", 0)],
            {"last": "sentence_idx"},
            'row 4: "0" in column sentence_idx comes 88.6 s after the word before it',
        ),
        (
            [(10, 10.4, "how"), (10.5, 11, "are"), (1, 1.5, "you")],
            {},
            "row 4 starts at 1 s, one before at 10.5 s: words must be in order of time",
        ),
    ],
)
def test_words_of_recordings_that_follow_each_other_are_refused(rows, fields, message, refusal):
    assert message in refusal(words(*rows, **fields))


def test_a_column_that_is_not_there_is_refused(refusal):
    said = refusal(words((1, 1.4, "how")), grouping="column")
    assert (
        "no column known as the number of a sentence. Found: onset, end, word. Set `group`" in said
    )


# ---------------------------------------------------------------- what is wrong in other ways


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty. Give a table"),
        (" \n\t\n", "is empty. Give a table"),
        ("onset,end,text\n", "has no rows (columns: onset, end, text): nothing was said"),
        (
            "A\t00:00:01:12\t00:00:02:03\tHi\n",
            "has no rows (columns: A, 00:00:01:12, 00:00:02:03, Hi)",
        ),
        ("1\n00:00:01,000 --> 00:00:02,000\nHello, you\n", "holds subtitles"),
        ("onset,end,text\n1,2,n/a\n3,4,\n", "none of 2 rows has a text in column text"),
        ("onset,end,text\n1,2.5,How are you\n3,\n", "row 3 has 2 cells, the first row 3"),
        ("onset,end,text\n\n1,2.5,How, you\n", "row 3 has 4 cells, the first row 3"),
        ("one line of prose", 'is no table with columns; it begins "one line of prose"'),
        (b"\0\0\0\3" * 99, "is a binary file"),
        (b"\0\1\2\3" * 99, "is not a text file"),
        (b"PK\x03\x04" + b"\0" * 99, "is a spreadsheet or an archive"),
        (b"\x89HDF\r\n", "is an HDF5 file"),
        ("a,b\n\x1b[2J,1\n", "control character '\\x1b'"),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\nHi", "holds subtitles"),
        ("<?xml version='1.0'?><ANNOTATION_DOCUMENT/>", "export it as tab-delimited text"),
        (
            "subject,onset,end,text\n01,1,2.5,How are you\n02,1,2.5,How are you\n",
            "column subject has 01, 02. Split the table",
        ),
        (
            "participant_id,onset,end,text\nx,1,2.5,How are you\ny,1,2.5,How are you\n",
            "column participant_id has x, y",
        ),
        (
            "onset,end,text\n1,2.5,How are you\n5,4.5,How are you\n9,10,Fine thanks\n",
            "row 3 ends at 4.5 before it starts at 5 (negative duration)",
        ),
        (
            "onset,duration,text\n1,2.5,How are you\n5,-0.5,How are you\n9,1,Fine thanks\n",
            "row 3 ends at 4.5 before it starts at 5 (negative duration)",
        ),
        (
            "end,onset,text\n1,2.5,How are you\n5,6.5,How are you\n",
            "so do 2 of 2, as if onset and end were swapped",
        ),
        (
            "onset,duration,text\n1,0,How are you\n5,0,How are you\n",
            "every row ends when it starts. Set `offset` or `duration`",
        ),
        (
            "onset,duration,text\n1,n/a,How are you\n5,n/a,How are you\n",
            "no row with a text has both an onset and an end",
        ),
        ("onset,duration,text\n1,1,How are you\n", "has no tiers, and `tier` is words"),
        ('{"a": 1, "b": 2}', 'is JSON without a list "segments" whose entries have "start"'),
        ('{"segments": [1]}', "segment 0 is 1, not an object"),
        ('{"segments": []}', "has no segments (columns: nothing): nothing was said"),
        ('{"segments": [{"start": 1', "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ('[{"onset": 1, "text": "How are you"}]', "no column known as end or duration"),
        (
            '{"start": 1, "end": 2, "text": "How"}\n\n{"start": 3',
            "table.csv: line 3 is not valid JSON",
        ),
        ('{"start": 1, "end": 2, "text": "How"}\n[1, 2]\n', "line 2 is [1, 2], not an object"),
        (
            '{"onset": 1, "end": 2, "text": "How"}\n\n{"onset": 3, "end": "x", "text": "are"}\n',
            'line 3: "x" in column end is not a time',
        ),
        ("sep=;\nonset;end;text\n1;x;How are you\n", 'row 3: "x" in column end is not a time'),
        ("sep=;\nonset;end;text\n1;2\n", "row 3 has 2 cells, the first row 3 (separated by semi"),
    ],
)
def test_bad_input_is_refused_in_one_line(content, message, refusal):
    tier = {"tier": "words"} if "tier" in message and "no tiers" in message else {}
    assert message in refusal(content, **tier)


def test_a_file_or_folder_that_is_not_there_is_refused(tmp_path):
    for path in (tmp_path / "no.csv", tmp_path / "no" / "no.csv", tmp_path):
        with pytest.raises(UserError, match=r"is missing.*Check the name\."):
            read_sentence_table(path, TableSpec(), None, None)


def grid(*tiers: str) -> str:
    return tables.short_text_grid({name: [(1000, 2500, "how are you")] for name in tiers})


@pytest.mark.parametrize(
    ("content", "tier", "message"),
    [
        (grid("A", "B"), "", "has several tiers: A, B. Set `tier` to one of them"),
        (grid("A", "B"), "C", "has no tier C. Found: A, B. Set `tier` to one of them"),
        (
            grid("words").replace("IntervalTier", "TextTier").replace("1.000\n2.500", "1.000"),
            "",
            "no tier of intervals (its tiers of points: words)",
        ),
        (grid("words")[:-20], "", "is a damaged TextGrid, or ends too early"),
        (grid("words").replace('"words"', "5"), "", "is a damaged TextGrid"),
        (grid(), "", "no tier of intervals (its tiers of points: none)"),
    ],
)
def test_text_grids_without_the_tier_are_refused(content, tier, message, refusal):
    assert message in refusal(content, "a.TextGrid", tier=tier)


def test_a_tier_is_chosen_by_name_or_all_are_speakers(read):
    assert read(grid("A", "B"), tier="B").speaker == ("",)
    assert read(grid("A", "B"), tier="all").speaker == ("A", "B")
    assert (
        read(grid("words", "sentences", "phones"))
        .understood[0]
        .endswith("tier sentences was read.")
    )
    assert read(grid("A - words", "B - words"), tier="words").speaker == ("A", "B")


def test_what_looks_wrong_is_said_with_the_first_row(read):
    content = (
        "onset,end,text\n"
        "20,21.5,How are you\n"
        "1,2.5,How are you\n"  # not in order
        "2,3.5,How are you\n"  # overlaps
        "30,65,How are you and you and you\n"  # lasts
        "70,70,How are you\n"  # does not
    )
    assert read(content).doubts == (
        "1 sentence has no duration and is left out (row 6).",
        "Sentences are not in order of time: row 3 begins at 1 s, the one before at 20 s. They "
        "were sorted.",
        "1 sentence overlaps one before it (row 4).",
        "1 sentence lasts over 30 s (row 5).",
    )
    two = "".join(f"{i + 1},{i + 1.8},How are you {i}\n" for i in (*range(20), *range(20)))
    assert any(
        "as if recordings followed each other" in d for d in read(f"onset,end,text\n{two}").doubts
    )
    kinds = "".join(f"{i},{i + 0.8},listen now\n" for i in range(50))
    assert any("named kinds of events" in d for d in read(f"onset,end,text\n{kinds}").doubts)
    rows = [f"{i},{i + 0.5},{('face', 'house', 'rest')[i % 3]}\n" for i in range(90) if i % 9]
    for grouping in ("auto", "gaps", "none"):
        found = read("onset,end,trial_type\n" + "".join(rows), grouping=grouping)
        assert len(found) == (80 if grouping == "none" else 10)
        (doubt,) = found.doubts
        assert "3 texts only, as if the column trial_type named kinds of events" in doubt
    natural = [f"{i * 0.3:.1f},{i * 0.3 + 0.2:.1f},word{i % 51}\n" for i in range(2000)]
    found = read("onset,end,word\n" + "".join(natural), length=900.0)
    assert not any("kinds of events" in doubt for doubt in found.doubts)
    both = read("onset,end,duration,text\n1,2.5,1.5,How are you\n3,4.5,1.0,How are you\n")
    assert both.doubts == (
        "1 row has another end than by the duration (first row 3). The end counts.",
    )
    assert both.offset_s.tolist() == [2.5, 4.5]


def test_letters_of_another_encoding_are_read_and_are_a_doubt(read):
    content = "onset;end;text\n1,5;2,5;Grüß Gott, élève\n"
    (doubt,) = read(content.encode("latin-1")).doubts
    assert "was read as Windows-1252: check its letters" in doubt
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        found = read(content.encode(encoding))
        assert found.text == ("Grüß Gott, élève",)
        assert found.doubts == ()


def test_quotation_marks_are_letters_where_they_quote_nothing(read):
    found = read('onset\tend\tword\n1.5\t2.0\t"Hello\n2.0\t2.5\tyou,"\n2.6\t3.0\t"\n3\t3.5\tshe.\n')
    assert found.text == ('"Hello you," " she.',)
    assert read('onset\tend\ttext\n1.5\t2.5\t"Hello," she said\n').text == ('"Hello," she said',)
    assert read('onset,end,text\n1.5,2.5,"Hello, ""you""\nthere"\n').text == ('Hello, "you" there',)


def test_halves_of_surrogates_and_control_characters_do_not_reach_the_text(read):
    content = json.dumps(
        {"segments": [{"start": 1, "end": 2.5, "text": "how\ud800 are\u0000you\n"}]}
    )
    assert read(content).text == ("how? are you",)


@pytest.mark.parametrize(
    ("field", "value"), [("grouping", "some"), ("time_unit", "hours"), ("gap_s", -1.0)]
)
def test_a_field_that_is_no_choice_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        TableSpec(**{field: value})


@pytest.mark.parametrize("last", ["", ",sentence_id"])
def test_a_long_table_takes_time_in_proportion(last, read):
    rows = "".join(
        f"{i * 0.3:.3f},0.25,word{i % 7}{'.' * (i % 7 == 0)}{f',{i // 7}' if last else ''}\n"
        for i in range(70_000)
    )
    began = time.process_time()
    found = read(f"onset,duration,word{last}\n{rows}", length=21_001.0)
    assert time.process_time() - began < 10  # half a second on an idle core
    assert len(found) == 10_000 + (not last)


# ---------------------------------------------------------------- round trip

LETTERS = "abcdefghijklmnopqrstuvwxyzäéñ"
ONSETS, ENDS = ("onset", "start", "Begin", "tmin", "t_start"), ("end", "offset", "stop", "tmax")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "latin-1")


@st.composite
def spoken(draw) -> tuple[Sentence, ...]:
    inner = st.text(LETTERS + ",;'\"-", min_size=2, max_size=6)
    word = st.builds(
        lambda a, b, c: a + b + c, st.sampled_from(LETTERS), inner, st.sampled_from(LETTERS)
    )
    found, now = [], 0
    for texts in draw(st.lists(st.lists(word, min_size=1, max_size=4), min_size=2, max_size=5)):
        made = []
        now += draw(st.integers(800, 3000))
        for place, text in enumerate(texts):
            text += "." * (place == len(texts) - 1)
            onset = now + draw(st.integers(0, 200))
            now = onset + draw(st.integers(40, 90)) * len(text)
            made.append(Word(onset, now, text))
        found.append(Sentence(tuple(made)))
    return tuple(found)


@settings(max_examples=120)
@given(spoken(), st.data())
def test_what_is_written_comes_back(tmp_path_factory, sentences, data):
    draw = data.draw
    delimiter = draw(st.sampled_from("\t;,"))
    as_words = draw(st.booleans())
    write = draw(st.sampled_from((tables.s, tables.clock, *((tables.comma,) * (delimiter != ",")))))
    units = [w for x in sentences for w in x.words] if as_words else list(sentences)
    by_end = draw(st.booleans()) or write is tables.clock
    columns = {
        draw(st.sampled_from(ONSETS)): [write(x.onset_ms) for x in units],
        draw(st.sampled_from(ENDS)) if by_end else "duration": [
            write(x.offset_ms if by_end else x.offset_ms - x.onset_ms) for x in units
        ],
        "word" if as_words else "sentence": [x.text for x in units],
    }
    names = draw(st.permutations(list(columns)))
    rows = [names, *zip(*(columns[name] for name in names), strict=True)]
    style = {
        "quoting": draw(st.sampled_from((0, 1))),
        "lineterminator": draw(st.sampled_from(("\n", "\r\n", "\r"))),
    }
    path = tmp_path_factory.getbasetemp() / "round_trip.txt"
    path.write_bytes(tables.table(rows, delimiter, draw(st.sampled_from(ENCODINGS)), **style))
    spec = TableSpec(grouping="punctuation" if as_words else "none")
    cells = [
        cell
        for name, column in columns.items()
        if name not in ("word", "sentence")
        for cell in column
    ]
    if write is tables.comma and all(re.fullmatch(r"[1-9]\d{0,2},\d{3}", cell) for cell in cells):
        with pytest.raises(UserError, match="may separate decimals or thousands"):
            read_sentence_table(path, spec, RATE_HZ, LENGTH_S)
        return
    found = read_sentence_table(path, spec, RATE_HZ, LENGTH_S)
    assert found.text == tuple(x.text for x in sentences)
    np.testing.assert_allclose(found.onset_s, [x.onset_ms / 1000 for x in sentences], atol=1e-9)
    np.testing.assert_allclose(found.offset_s, [x.offset_ms / 1000 for x in sentences], atol=1e-9)
