"""Made-up film dialogue: short English sentences of a wanted number of words."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


def _words(text: str) -> list[str]:
    return text.split()


SUBJECTS = {"I": "'m", "you": "'re", "he": "'s", "she": "'s", "we": "'re", "they": "'re"}
DETERMINERS = _words("the a my your this that our every")
ADJECTIVES = _words(
    """
    small old quiet broken heavy strange golden empty angry lucky yellow frozen clever hidden
    tired secret gentle crooked famous hungry wooden silent enormous purple rusty friendly
    """
)
NOUNS = _words(
    """
    door river engine doctor garden letter window captain bridge kitchen mountain ticket brother
    island camera soldier blanket rabbit market picture winter hammer teacher bottle ladder
    pocket station uncle candle horse village basket signal helmet lantern museum neighbour
    suitcase pilot orange tunnel mirror whistle computer sailor carpet factory balloon elephant
    sandwich mystery ocean guitar treasure farmer circus volcano pepper diamond grandmother
    """
)
TRANSITIVE = [  # base form, past form
    *[("open", "opened"), ("carry", "carried"), ("find", "found"), ("break", "broke")],
    *[("follow", "followed"), ("paint", "painted"), ("steal", "stole"), ("repair", "repaired")],
    *[("watch", "watched"), ("throw", "threw"), ("forget", "forgot"), ("buy", "bought")],
    *[("lose", "lost"), ("wash", "washed"), ("push", "pushed"), ("remember", "remembered")],
]
INTRANSITIVE = _words(
    """
    slept laughed shouted waited vanished danced arrived whispered stumbled smiled listened
    worked
    """
)
PREPOSITIONS = _words("behind near under with without inside above beside")
ADVERBS = _words(
    """
    again slowly yesterday alone outside together twice suddenly tomorrow carefully
    """
)
CONJUNCTIONS = _words("and but because so while until")
INTERJECTIONS = _words(
    """
    yeah no what okay wow hello sorry right never hey please great listen seriously goodbye
    """
)

LONGEST_CLAUSE = 8  # words; longer sentences join clauses


@dataclass(frozen=True)
class Token:
    """A token of the transcript.

    Attributes:
        text: The word as transcribed, lower case except for "I".
        pos: Universal part of speech.
        spoken: Whether the word has a time of its own; particles ("n't", "na") have none.
        attached: Whether the sentence's text sets the token without a space before it.
    """

    text: str
    pos: str
    spoken: bool = True
    attached: bool = False


@dataclass(frozen=True)
class Sentence:
    """A sentence: its tokens and its text with capital letter and final punctuation."""

    tokens: tuple[Token, ...]
    text: str

    @property
    def n_words(self) -> int:
        """Number of tokens that have a time of their own."""
        return sum(token.spoken for token in self.tokens)


def compose_sentence(random: Random, n_words: int) -> Sentence:
    """Make up a sentence of exactly `n_words` spoken words."""
    tokens = _compose(random, n_words)
    mark = "?" if tokens[0].text in ("did", "what") else random.choice("......!")
    text = "".join(token.text if token.attached else f" {token.text}" for token in tokens)[1:]
    return Sentence(tuple(tokens), text[0].upper() + text[1:] + mark)


def _compose(random: Random, n_words: int) -> list[Token]:
    if n_words == 1:
        return [Token(random.choice(INTERJECTIONS), "INTJ")]
    if n_words > LONGEST_CLAUSE:
        # What follows the conjunction keeps at least two words, the fewest that make a clause.
        first = random.randint(3, min(LONGEST_CLAUSE, n_words - 3))
        joint = Token(random.choice(CONJUNCTIONS), "CCONJ")
        return [*_compose(random, first), joint, *_compose(random, n_words - first - 1)]
    while True:
        tokens = _clause(random)
        if sum(token.spoken for token in tokens) == n_words:
            return tokens


def _clause(random: Random) -> list[Token]:
    shapes = (_statement, _statement, _intention, _intention, _denial, _question, _exclamation)
    tokens = random.choice(shapes)(random)
    if random.random() < 0.3:
        tokens += [Token(random.choice(PREPOSITIONS), "ADP"), *_thing(random)]
    if random.random() < 0.3:
        tokens.append(Token(random.choice(ADVERBS), "ADV"))
    return tokens


def _thing(random: Random) -> list[Token]:
    tokens = [Token(random.choice(DETERMINERS), "DET"), Token(random.choice(NOUNS), "NOUN")]
    if random.random() < 0.4:
        tokens.insert(1, Token(random.choice(ADJECTIVES), "ADJ"))
    return tokens


def _pronoun(random: Random) -> Token:
    return Token(random.choice(list(SUBJECTS)), "PRON")


def _subject(random: Random) -> list[Token]:
    return [_pronoun(random)] if random.random() < 0.6 else _thing(random)


def _statement(random: Random) -> list[Token]:
    if random.random() < 0.4:
        return [*_subject(random), Token(random.choice(INTRANSITIVE), "VERB")]
    _, past = random.choice(TRANSITIVE)
    return [*_subject(random), Token(past, "VERB"), *_thing(random)]


def _intention(random: Random) -> list[Token]:
    """An intention such as "I'm gon na open the door": two particles without a time."""
    subject = _pronoun(random)
    be = Token(SUBJECTS[subject.text], "AUX", spoken=False, attached=True)
    going = [Token("gon", "VERB"), Token("na", "PART", spoken=False)]
    base, _ = random.choice(TRANSITIVE)
    return [subject, be, *going, Token(base, "VERB"), *_thing(random)]


def _denial(random: Random) -> list[Token]:
    negation = Token("n't", "PART", spoken=False, attached=True)
    base, _ = random.choice(TRANSITIVE)
    verb = [Token("did", "AUX"), negation, Token(base, "VERB")]
    return [*_subject(random), *verb, *_thing(random)]


def _question(random: Random) -> list[Token]:
    base, _ = random.choice(TRANSITIVE)
    return [Token("did", "AUX"), _pronoun(random), Token(base, "VERB"), *_thing(random)]


def _exclamation(random: Random) -> list[Token]:
    return [Token(random.choice(INTERJECTIONS), "INTJ"), Token(random.choice(NOUNS), "NOUN")]
