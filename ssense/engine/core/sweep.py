"""What a sweep compares: families of configurations over the same seeds and stimuli."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from itertools import combinations, islice, pairwise, product
from math import prod
from typing import Any, get_type_hints

import numpy as np

from ssense.engine.core.cell import (
    SIGNATURE_VERSION,
    Cell,
    Configuration,
    Level,
    dataset_choice,
    describe,
    is_number,
    signature,
)
from ssense.engine.core.checks import check_seeds
from ssense.errors import UserError, one_line, printable
from ssense.files.digest import digest
from ssense.files.plain_values import from_plain
from ssense.specification import configured, field_names, identity, settings, unions
from ssense.training.tasks import TaskSpec

Levels = tuple[Level, ...]
"""The values a hyperparameter may take, each once, numbers in increasing order."""

# TPE draws its first proposals at random; they need no result and wait for none. Optuna's own
# default of 10 would leave nothing to learn from in families of ten configurations.
STARTUP_PROPOSALS = 4
BY_THREES = 3
"""How many configurations were proposed at once before a sweep said how many."""
_LEAST_AT_ONCE = 6
_LISTED_CHARACTERS = 150  # characters of fields' names in a message
_MOST_TRIED = 100_000  # combinations of a part's levels; a microsecond or ten each
_EXAMPLE = '{"masked": {"masking.time": (0.1, 0.2)}}'


@dataclass(frozen=True, kw_only=True)
class Family:
    """Configurations of one kind: every combination of the levels of some hyperparameters.

    Attributes:
        name: Name as shown to people.
        levels: Levels by dotted field of the specification; none for the family's single
            configuration {}.
        needs: Fields that exist only with some levels of a field before them, with these levels, by
            the name of that field: a field of one kind of a part, where kinds are compared.

    Raises:
        UserError: A field has no level, a level twice, or numbers that do not increase.
    """

    name: str
    levels: Mapping[str, Levels]
    needs: Mapping[str, Mapping[str, Levels]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, levels in self.levels.items():
            where = f"family {printable(self.name)}: {printable(name)}"
            if not levels:
                raise UserError(f"{where} has no level to try.")
            level, n_times = Counter(levels).most_common(1)[0]
            if n_times > 1:
                raise UserError(f"{where} has the level {_shown(level)} twice. Remove one.")
            numbers = list(filter(is_number, levels))
            for before, level in pairwise(numbers):
                if level < before:  # the search takes neighbours to be alike
                    raise UserError(
                        f"{where} has the level {_shown(level)} after {_shown(before)}. Give its "
                        "levels in increasing order."
                    )

    @cached_property
    def size(self) -> int:
        """How many configurations there are to choose from."""
        needed = dict.fromkeys(name for needs in self.needs.values() for name in needs)
        return sum(
            prod(
                len(levels)
                for name, levels in self.levels.items()
                if name not in needed and self.has(name, kinds)
            )
            for kinds in _combinations({name: self.levels[name] for name in needed})
        )

    def has(self, name: str, configuration: Configuration) -> bool:
        """Whether a configuration has a field, by its levels of the fields before that one."""
        needs = self.needs.get(name, {})
        return all(configuration.get(other) in levels for other, levels in needs.items())

    def configurations(self) -> Iterator[Configuration]:
        """Every configuration of the family, in the order of its levels."""
        return self._continued({}, list(self.levels))

    def parts(self, names: Collection[str]) -> Iterator[Configuration]:
        """What its configurations change of some parts of the specification, each combination once.

        Args:
            names: Names of the parts.
        """
        levels = {n: of for n, of in self.levels.items() if n.partition(".")[0] in names}
        needs = {name: of for name, of in self.needs.items() if name in levels}
        return Family(name=self.name, levels=levels, needs=needs).configurations()

    def _continued(self, begun: Configuration, names: Sequence[str]) -> Iterator[Configuration]:
        if not names:
            yield begun
            return
        name, *others = names
        if not self.has(name, begun):
            yield from self._continued(begun, others)
            return
        for level in self.levels[name]:
            yield from self._continued({**begun, name: level}, others)

    def fault_of(self, configuration: Configuration) -> str:
        """Why a configuration is none of the family's; empty where it is one."""
        names = {name for name in self.levels if self.has(name, configuration)}
        if configuration.keys() != names:
            return "belongs to no family"
        for name, value in configuration.items():
            if value not in self.levels[name]:
                return f"has {name} {value}, which is not one of the family's levels"
        return ""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A question and what is to answer it: families, seeds, and the training they share.

    Attributes:
        question: Short name of the question, "masking"; MLflow's experiment has it too.
        dataset_digest: Digest of the dataset of the specification.
        specification: What every cell shares; configurations replace fields of it.
        families: Families to compare with each other.
        configurations: How many configurations the search tries in each family (fewer where a
            family is smaller).
        seeds: Seeds that every configuration meets.
        proposals_at_once: How many configurations of a family the sampler proposes at once, after
            the first few: from the results before them all. A sweep keeps what it began with.
        spread_proposals: Whether the sampler is told which configurations have no result that it
            may know, so that those of a batch differ more. A sweep keeps what it began with.
        unordered_names: Whether the sampler takes three and more names for categories, not for
            levels in order. A sweep keeps what it began with.
        datasets: Digests of the datasets that configurations may ask for, by `dataset_choice`; none
            where all cells share that of the specification.

    Raises:
        ValueError: None is proposed at once.
        UserError: A seed is repeated or negative, nothing is left to compare, or a family has
            levels of what all cells share.
    """

    question: str
    dataset_digest: str
    specification: TaskSpec
    families: tuple[Family, ...]
    configurations: int
    seeds: tuple[int, ...]
    proposals_at_once: int = BY_THREES
    spread_proposals: bool = False
    unordered_names: bool = False
    datasets: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        if self.proposals_at_once < 1:
            raise ValueError(f"proposals_at_once must be at least 1, got {self.proposals_at_once}")
        if self.configurations < 1:
            raise UserError(f"`configurations` must be at least 1, got {self.configurations}.")
        for family in self.families:
            for name in family.levels:
                if name in ("split", "contacts"):
                    raise UserError(
                        f"family {family.name} varies {name}, but all cells of a sweep share one "
                        "value of it. Run a sweep for each."
                    )

    @cached_property
    def name(self) -> str:
        """Folder of the sweep: the question, and a hash of what makes its cells comparable.

        More seeds or configurations extend a sweep; another dataset, training or search space is
        another sweep.
        """
        levels = {family.name: dict(family.levels) for family in self.families}
        origin = digest(
            SIGNATURE_VERSION,
            self.dataset_digest,
            identity(self.specification.by_content(), leave_out=self.specification.data_groups),
            levels,
        )
        return f"{self.question}-{origin[:8]}"

    def dataset_of(self, configuration: Configuration) -> str:
        """The digest of the dataset that the cells of a configuration are trained on.

        Raises:
            ValueError: The configuration asks for a dataset that the sweep does not have.
        """
        if not self.datasets:
            return self.dataset_digest
        choice = dataset_choice(configured(self.specification, configuration))
        if choice not in self.datasets:
            raise ValueError(f"the sweep has no dataset for {describe(configuration)}")
        return self.datasets[choice]

    def all_datasets(self) -> set[str]:
        """Digests of the datasets that cells may be trained on."""
        return {*self.datasets.values()} or {self.dataset_digest}

    def signature(self, cell: Cell) -> str:
        """The signature of a cell on its dataset.

        Raises:
            ValueError: The sweep has no such configuration.
        """
        return signature(cell, self.specification, self.dataset_of(cell.configuration))

    def wanted(self, family: Family) -> int:
        """How many configurations of a family belong to the sweep."""
        return min(self.configurations, family.size)

    def family(self, name: str) -> Family:
        """The family of that name."""
        return next(family for family in self.families if family.name == name)

    @property
    def n_cells(self) -> int:
        """How many cells the sweep has."""
        return len(self.seeds) * sum(self.wanted(family) for family in self.families)


def proposals_at_once(configurations: int) -> int:
    """How many configurations a new sweep proposes at once in a family of which it tries so many.

    Half of those after the first few, and six at least. The more at once, the busier are many
    workers, and the less does the sampler know; benchmarks/race.py has both. It is a function of
    the sweep, never of the workers that happen to be there: any machine makes the same proposals.
    """
    return max(_LEAST_AT_ONCE, math.ceil((configurations - STARTUP_PROPOSALS) / 2))


@dataclass(frozen=True)
class Row:
    """One configuration of the matrix configuration x seed, in the order of proposal."""

    family: str
    configuration: Configuration


def checked_levels(
    specification: TaskSpec, families: Mapping[str, Mapping[str, Levels]]
) -> dict[str, dict[str, Levels]]:
    """Refuse families over a field that cells don't have, or over values that it can't take.

    Values of a part of the specification are tried together, as configurations have them.

    Args:
        specification: What every cell shares.
        families: Levels by dotted field, by name of the family.

    Returns:
        The same, with NumPy's numbers as Python's own.

    Raises:
        UserError: There is no family; or a name, a field, a value or a combination of values is
            refused. The message names it and, of a field, nearest first those that there are.
    """
    _check_families(families)
    found = {family: _plain_levels(family, levels) for family, levels in families.items()}
    fields = field_names(type(specification))
    for family, levels in found.items():
        for name, values in levels.items():
            if name not in fields:
                kind = type(specification).__name__
                near = get_close_matches(name, fields, n=len(fields), cutoff=0)
                raise UserError(
                    f"family {printable(family)}: {printable(name)} is not a field of {kind}. "
                    f"Nearest first: {printable(', '.join(near), _LISTED_CHARACTERS)}"
                )
            for value in values:
                try:
                    from_plain(Level, value)  # type: ignore[arg-type]  # a union
                    for kinds in _kinds_with(name, specification, levels):
                        _check_type(configured(specification, kinds), name, value)
                except (TypeError, ValueError, UserError) as error:
                    raise _refused(family, {name: value}, error) from error
        _check_combinations(specification, family, levels)
    return found


def _check_combinations(specification: TaskSpec, family: str, levels: Mapping[str, Levels]) -> None:
    """Refuse levels of a part that its fields can't take together, or one of them never."""
    compared = family_of(specification, family, levels)
    for part in dict.fromkeys(name.partition(".")[0] for name in levels):
        for changes in islice(compared.parts((part,)), _MOST_TRIED):
            if error := _fault(specification, changes):
                at_fault = _at_fault(specification, changes, str(error))
                raise _refused(family, at_fault, error) from error


def _fault(specification: TaskSpec, changes: Configuration) -> Exception | None:
    try:
        configured(specification, changes)
    except (TypeError, ValueError, UserError) as error:
        return error
    return None


def _at_fault(specification: TaskSpec, changes: Configuration, reason: str) -> Configuration:
    """The fewest of some levels that a specification refuses for the same reason, kinds aside."""
    kinds = {name: changes[name] for name in changes if name in unions(type(specification))}
    others = [name for name in changes if name not in kinds]
    for n in range(len(others)):
        for names in combinations(others, n):
            some = {name: changes[name] for name in names}
            if str(_fault(specification, {**kinds, **some})) == reason:
                return some or kinds
    return {name: changes[name] for name in others} or kinds


def _refused(family: str, levels: Configuration, error: Exception) -> UserError:
    where, why = f"family {printable(family)}", one_line(error).removesuffix(".")
    if len(levels) == 1:
        ((name, value),) = levels.items()
        return UserError(f"{where}: {printable(name)} can't be {_shown(value)} ({why}).")
    listed = " and ".join(f"{printable(name)} {_shown(value)}" for name, value in levels.items())
    return UserError(
        f"{where}: {listed} can't stand together ({why}). A family has every combination of its "
        "levels: give those that fit as families of their own."
    )


def _check_families(families: Any) -> None:
    """Refuse what is no mapping of names to families; types are not checked before."""
    if not isinstance(families, Mapping) or not families:
        raise UserError(
            f"families are {_shown(families)}, and a sweep compares one at least. Give levels by "
            f"field, by the family's name, as in {_EXAMPLE}."
        )
    for name in families:
        if not isinstance(name, str) or not name.strip():
            raise UserError(
                f"a family is called {printable(repr(name))}. Give it a name, as in {_EXAMPLE}."
            )


def _plain_levels(family: str, levels: Mapping[str, Levels]) -> dict[str, Levels]:
    """The levels of a family, with NumPy's numbers as Python's own."""
    _check_form(family, levels)
    return {name: tuple(map(_plain_value, values)) for name, values in levels.items()}


def _plain_value(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _check_form(family: str, levels: Any) -> None:
    """Refuse a family that is no mapping of fields to levels; types are not checked before."""
    where = f"family {printable(family)}"
    if not isinstance(levels, Mapping):
        raise UserError(
            f"{where} is {_shown(levels)}, not levels by field. Give them as "
            '{"training.learning_rate": (0.0005, 0.001)}.'
        )
    for name, values in levels.items():
        if not isinstance(name, str):
            raise UserError(f"{where} names the field {_shown(name)}, which is no text.")
        if not isinstance(values, list | tuple):
            raise UserError(
                f"{where}: the levels of {printable(name)} are {_shown(values)}, no tuple of them. "
                f"Write a single one as ({_shown(values)},)."
            )


def _check_type(specification: TaskSpec, name: str, value: Any) -> None:
    """Refuse a value of another type than its field's, before the field compares it."""
    *parts, field_name = name.split(".")
    part: Any = specification
    for each in parts:
        part = getattr(part, each, None)
    hint = get_type_hints(type(part)).get(field_name)
    if hint is None:
        configured(specification, {name: value})  # says that there is no such field
    elif name not in unions(type(specification)):
        from_plain(hint, value)


def check_different(specification: TaskSpec, families: Iterable[Family]) -> None:
    """Refuse two families of one configuration each that is the same: each would meet itself.

    Args:
        specification: What every cell shares.
        families: The families to compare.

    Raises:
        UserError: Two families are the same.
    """
    known: dict[str, str] = {}
    for family in families:
        if family.size > 1:
            continue
        (configuration,) = family.configurations()
        try:
            asked = configured(specification, configuration)
        except ValueError:  # whoever plans the data says what is wrong with it
            continue
        named = digest(identity(asked.by_content()))
        if other := known.get(named):
            shown = describe(configuration) if configuration else "as specified"
            raise UserError(
                f"families {printable(other)} and {printable(family.name)} are the same "
                f"configuration, {printable(shown)}. Leave one out."
            )
        known[named] = family.name


def family_of(specification: TaskSpec, name: str, levels: Mapping[str, Levels]) -> Family:
    """The family of some levels, fields that exist with some kinds alone behind those kinds.

    Args:
        specification: What every cell shares.
        name: Name of the family.
        levels: Levels by dotted field, as `checked_levels` gives them.
    """
    needs = needs_of(specification, levels)
    in_order = {field: levels[field] for field in sorted(levels, key=needs.__contains__)}
    return Family(name=name, levels=in_order, needs=needs)


def needs_of(
    specification: TaskSpec, levels: Mapping[str, Levels]
) -> dict[str, Mapping[str, Levels]]:
    """Which fields of a family exist with some kinds of their part alone, see `Family.needs`.

    Args:
        specification: What every cell shares.
        levels: Levels by dotted field, as `checked_levels` passes them.
    """
    found: dict[str, Mapping[str, Levels]] = {}
    for name in levels:
        part = name.partition(".")[0]
        if part == name or part not in levels or part not in unions(type(specification)):
            continue
        having = tuple(k for k in levels[part] if _has(specification, {part: k}, name))
        if having != levels[part]:
            found[name] = {part: having}
    return found


def _kinds_with(
    name: str, specification: TaskSpec, levels: Mapping[str, Levels]
) -> Sequence[Configuration]:
    """The choices of kinds with which a field exists; all of them where it never does."""
    kinds = [*_kinds(specification, levels)]
    return [each for each in kinds if name in each or _has(specification, each, name)] or kinds


def _has(specification: TaskSpec, kinds: Configuration, name: str) -> bool:
    return name in settings(configured(specification, kinds))


def _kinds(specification: TaskSpec, levels: Mapping[str, Levels]) -> Iterator[Configuration]:
    """Every choice of kinds that a family's levels make for the parts of a specification."""
    kinds = unions(type(specification))
    return _combinations({name: levels[name] for name in levels if name in kinds})


def _combinations(levels: Mapping[str, Levels]) -> Iterator[Configuration]:
    for values in product(*levels.values()):
        yield dict(zip(levels, values, strict=True))


def _shown(value: object) -> str:
    return printable(str(value))
