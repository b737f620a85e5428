"""What columns mean, by the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ssense.data.recordings.tables.table import (
    NOT_AVAILABLE,
    Table,
    Unit,
    not_plain,
    refuse_absent,
)
from ssense.data.recordings.tables.tiers import WORD_TIERS
from ssense.data.recordings.tables.times import looks_like_times
from ssense.errors import UserError, printable
from ssense.files.tables import listing

NamedUnit = Unit | Literal["", "clock"]

# A column has a role if a word of its name is one of the role's and all others say nothing.
_ROLE_WORDS: dict[str, frozenset[str]] = {
    "onset": frozenset(
        {"onset", "onsets", "start", "starts", "begin", "begins", "beginning", "from"}
    ),
    "offset": frozenset({"offset", "end", "ends", "stop", "stops", "finish", "until", "to"}),
    "duration": frozenset({"duration", "durations", "dur"}),
    "speaker": frozenset({"speaker", "talker"}),
}
_ONE_WORD = {
    **dict.fromkeys(("tmin", "xmin", "tstart", "tbegin"), "start"),
    **dict.fromkeys(("tmax", "xmax", "tend", "tstop"), "end"),
}
# The first of these that a table has is the text; two of one rank are refused.
_TEXT_RANKS = (
    frozenset({"text", "texts", "sentence", "sentences", "word", "words", "token", "phrase"})
    | {"transcript", "transcripts", "transcription", "utterance", "utterances"}
    | {"orthography", "content"},
    frozenset({"label", "labels", "annotation", "value", "description"}),
    frozenset({"trialtype", "stimulus", "stim"}),
)
_SAY_NOTHING = frozenset({"time", "times", "t", "stimulus", "stim", "event", "audio", "speech"}) | {
    *("spoken", "item", "word", "sentence", "segment", "utterance", "token", "phrase"),
    *("annotation", "text"),
}
_THINGS = frozenset({"sentence", "sent", "utterance", "segment", "phrase", "group"})
_COUNTS = frozenset({"id", "idx", "index", "number", "nr", "no", "num"})
_SUBJECTS = frozenset({"subject", "subj", "sub", "participant", "patient", "proband"})
_SESSIONS = frozenset({"session", "ses"})
_UNIT_WORDS: dict[str, Unit] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "seconds"),
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds"), "milliseconds"),
    **dict.fromkeys(("sample", "samples"), "samples"),
}
# What is taken of several columns that say one thing in several units, as of ELAN and BIDS.
_UNIT_RANKS: tuple[NamedUnit, ...] = ("seconds", "milliseconds", "clock", "", "samples")

TIMED = ("onset", "offset", "duration")


@dataclass(frozen=True)
class Columns:
    """Names of the columns that are read; empty where a table has none.

    Attributes:
        onset, offset, duration, text, speaker, tier: The column of each role.
        sample: A column of onsets in samples besides those that are read, as BIDS has it.
        units: Unit by the column's own name, of the columns of times whose name has one.
    """

    onset: str
    offset: str
    duration: str
    text: str
    speaker: str
    tier: str
    sample: str
    units: Mapping[str, Unit]

    @property
    def read(self) -> set[str]:
        """Columns whose content is in the sentences."""
        used = (self.onset, self.offset, self.duration, self.text, self.speaker)
        return {name for name in used if name}


def find_columns(table: Table, named: Mapping[str, str], group: str) -> Columns:
    """Find the columns by the fields that name them, by the format, or by their own names.

    Args:
        table: The table.
        named: Names that the user gave, by role; empty where there is none.
        group: The column that tells sentences apart, if any, which is not the text.

    Raises:
        UserError: A column is missing, two may be meant, or one is named for two roles; the
            message has the names found and the fields to set.
    """
    for role, name in {**named, "group": group}.items():
        if name:
            refuse_absent(name, role, table)
    by_user = {role: name for role, name in named.items() if name}
    _refuse_one_for_two(table, {**by_user, "group": group})
    of_format = {r: name for r, name in table.roles.items() if name not in by_user.values()}
    given = {**of_format, **by_user}
    taken = {*given.values(), group} - {""}
    free = [name for name in table.columns if name not in taken]
    tier = given.get("tier") or _tier(table, free)
    found = {role: given.get(role) or _timed(table, free, role) for role in TIMED}
    found["onset"] = found["onset"] or _weak_onset(free)
    free = [name for name in free if name not in found.values()]
    speaker = given.get("speaker") or _only(table, "speaker", _with_role(free, "speaker"))
    if not speaker and tier:  # ELAN's participant is who speaks
        speaker = next((name for name in free if _words(name)[0] == ["participant"]), "")
    text = given.get("text") or _text(table, free)
    _require(table, {**found, "text": text})
    units = {name: unit for name in found.values() if (unit := _unit(name)) and unit != "clock"}
    samples = [name for name in free if _unit(name) == "samples" and _is_onset_in_samples(name)]
    return Columns(
        **found,
        text=text,
        speaker=speaker,
        tier=tier,
        sample=samples[0] if len(samples) == 1 else "",
        units=units,
    )


def group_column(table: Table, columns: Columns, group: str) -> str:
    """The column that numbers or names the sentence of each word; empty if there is none.

    Raises:
        UserError: Several columns may be meant.
    """
    if group:
        return group
    free = [name for name in table.columns if name not in columns.read]
    return _only(table, "group", [name for name in free if _numbers_sentences(table, name)])


def refuse_several_recordings(table: Table, columns: Columns) -> None:
    """Refuse a table of several subjects or sessions: their times do not begin together."""
    for name in table.columns:
        words = set(_words(name)[0])
        kinds = _SUBJECTS | _SESSIONS
        if name in columns.read or not (words & kinds and words <= kinds | _COUNTS | {"name"}):
            continue
        values = list(dict.fromkeys(str(cell).strip() for cell in table.columns[name]))
        values = [value for value in values if value.lower() not in NOT_AVAILABLE]
        if len(values) > 1:
            raise UserError(
                f"{table.where} has rows of several recordings: column {printable(name)} has "
                f"{listing(values)}. Split the table, and give each recording its own."
            )


def names_words(name: str) -> bool:
    """Whether the name of a text column says that each row is a word."""
    return bool({*_words(name)[0]} & {"word", "words", "token"})


def names_sentences(name: str) -> bool:
    """Whether the name of a text column says that each row is a sentence."""
    return bool({*_words(name)[0]} & {"sentence", "sentences", "utterance", "utterances"})


def _words(name: str) -> tuple[list[str], NamedUnit]:
    """Words of a name in lower case, without its unit, which comes second: "clock" if hh:mm:ss."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    if "hh:mm:ss" in spaced:
        return _split(spaced.replace("hh:mm:ss", " ").replace(".ms", " ")), "clock"
    if "ss.msec" in spaced:
        return _split(spaced.replace("ss.msec", " ")), "seconds"
    words = _split(spaced)
    units = [word for word in words if word in _UNIT_WORDS]
    rest = [_ONE_WORD.get(word, word) for word in words if word not in _UNIT_WORDS]
    return rest, _UNIT_WORDS[units[-1]] if units else ""


def _split(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name)


def _unit(name: str) -> NamedUnit:
    return _words(name)[1]


def _with_role(names: Sequence[str], role: str) -> list[str]:
    wanted = _ROLE_WORDS[role]
    nothing = _SAY_NOTHING | (_COUNTS | {"name"} if role == "speaker" else set())
    found = []
    for name in names:
        words = set(_words(name)[0])
        if words & wanted and words <= wanted | nothing:
            found.append(name)
    return found


def _timed(table: Table, names: Sequence[str], role: str) -> str:
    """The column of times with a role; of several the one in the clearest unit."""
    found = _with_role(names, role)
    for unit in _UNIT_RANKS:
        if of_unit := [name for name in found if _unit(name) == unit]:
            return _only(table, role, of_unit)
    return ""


def _weak_onset(names: Sequence[str]) -> str:
    """A column called time, or sample, where no other is the onset."""
    for name in names:
        words, unit = _words(name)
        if set(words) <= _SAY_NOTHING and ("time" in words or (not words and unit == "samples")):
            return name
    return ""


def _is_onset_in_samples(name: str) -> bool:
    return set(_words(name)[0]) <= _ROLE_WORDS["onset"] | _SAY_NOTHING


def _refuse_one_for_two(table: Table, by_field: Mapping[str, str]) -> None:
    """Refuse a column that two fields name."""
    field_of: dict[str, str] = {}
    for role, name in by_field.items():
        if name and (other := field_of.setdefault(name, role)) != role:
            raise UserError(
                f"{table.where}: `{other}` and `{role}` both name the column {printable(name)}. "
                f"Set one of them to another column, of {listing(list(table.columns))}."
            )


def _called_text(names: Iterable[str], rank: frozenset[str]) -> list[str]:
    """Columns whose name is one of a rank of names for what was said."""
    found = []
    for name in names:
        words = set(_words(name)[0])
        if "".join(_words(name)[0]) in rank or (words & rank and words <= rank | _SAY_NOTHING):
            found.append(name)
    return found


def _text(table: Table, names: Sequence[str]) -> str:
    for rank in _TEXT_RANKS:
        found = _called_text(names, rank)
        if len(found) > 1:
            found = [name for name in found if not _no_text(table.columns[name])]
        elif found and _no_text(table.columns[found[0]]):
            continue
        if found:
            return _only(table, "text", found)
    return ""


def _no_text(cells: Sequence[Any]) -> str:
    """What a column holds instead of texts; empty where it holds these."""
    return not_plain(cells) or ("numbers only" if _is_numeric(cells) else "")


def _tier(table: Table, names: Sequence[str]) -> str:
    for name in names:
        if set(_words(name)[0]) - {"name"} == {"tier"}:
            return name
    # The Montreal Forced Aligner's CSV has words and phones in one column.
    for name in names:
        if name.lower() == "type" and WORD_TIERS & {str(cell) for cell in table.columns[name]}:
            return name
    return ""


def _numbers_sentences(table: Table, name: str) -> bool:
    words = set(_words(name)[0])
    if not words & _THINGS or not words <= _THINGS | _COUNTS:
        return False
    return bool(words & _COUNTS) or _is_numeric(table.columns[name])


def _is_numeric(cells: Sequence[Any]) -> bool:
    return looks_like_times(cells)


def _only(table: Table, role: str, names: Sequence[str]) -> str:
    if len(names) > 1:
        raise UserError(
            f"{table.where} has several columns that may be the {role}: {listing(names)}. Set "
            f"`{role}` to the name of one of them."
        )
    return names[0] if names else ""


def _require(table: Table, found: Mapping[str, str]) -> None:
    ends = found["offset"] or found["duration"]
    if found["onset"] and ends and found["text"]:
        return
    fields = {
        "onset": "" if found["onset"] else "`onset`",
        "end or duration": "" if ends else "`offset` or `duration`",
        "text": "" if found["text"] else "`text`",
    }
    wanted = [role for role, field in fields.items() if field]
    because = "" if found["text"] else "".join(_no_texts(table, set(found.values())))
    raise UserError(
        f"{table.where} has no column known as {', as '.join(wanted)}{because}. Found: "
        f"{listing(list(table.columns))}. Set {', '.join(filter(None, fields.values()))} to the "
        f"{'name of its column' if len(wanted) == 1 else 'names of their columns'}."
    )


def _no_texts(table: Table, taken: set[str]) -> Iterator[str]:
    """Why columns that are called as a text is are none, a phrase each."""
    held = {name: _no_text(cells) for name, cells in table.columns.items() if name not in taken}
    held |= table.unread
    for name in dict.fromkeys(name for rank in _TEXT_RANKS for name in _called_text(held, rank)):
        if held[name]:
            yield f"; {printable(name)} holds {held[name]}"
