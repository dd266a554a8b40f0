"""Which phrase means which proposal: the masks for a list of phrases, and phrases for what a photo shows.

A phrase that `described_objects` made finds its own object again; any other is read for the words that `words` knows.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sam3d_gs.embedded.language.region_attributes import measure_region
from sam3d_gs.embedded.language.words import MATCH_THRESHOLD, describe, explain_no_match, match_scores
from sam3d_gs.embedded.proposals.objects import find_objects
from sam3d_gs.embedded.proposals.selection import Choice
from sam3d_gs.options import MaskOptions
from sam3d_gs.types import InstanceMask, Photo, Phrase
from sam3d_gs.workspace import object_id

log = logging.getLogger("sam3d_gs")


@dataclass
class Assignment:
    """The phrase that a proposal belongs to, and which of its instances it is."""

    number: int
    phrase: str
    instance: int
    aliases: tuple[str, ...] = ()  # later phrases that mean the same proposal

    @property
    def object_id(self) -> str:
        return object_id(self.number, self.phrase, self.instance)


def described_objects(photo: Photo) -> list[tuple[str, Choice]]:
    """The objects kept under default options, best first, each with a description that no other one has."""
    kept = [choice for choice in find_objects(photo) if choice.dropped is None]
    texts = describe([measure_region(photo.rgb, choice.mask) for choice in kept])
    return list(zip(texts, kept, strict=True))


def masks_for_phrases(photo: Photo, phrases: Sequence[Phrase], options: MaskOptions) -> list[InstanceMask]:
    """Every proposal for the photo: first the objects that the phrases mean, then the others with their reason.

    A phrase that matches nothing is logged as a warning.
    """
    choices = {choice.proposal: choice for choice in find_objects(photo, options)}
    assigned = _assign_phrases(photo, phrases, choices)
    requested = set(assigned)
    _number_the_rest(photo, phrases, choices, assigned)
    found = [_instance_mask(choices[proposal], assigned, proposal in requested) for proposal in assigned]
    return sorted(found, key=lambda mask: mask.dropped is not None)  # stable: in the order of the phrases


def _assign_phrases(photo: Photo, phrases: Sequence[Phrase], choices: Mapping[int, Choice]) -> dict[int, Assignment]:
    """Proposal -> the first phrase that means it; later phrases become its aliases."""
    described = {text.casefold(): choice.proposal for text, choice in described_objects(photo)}
    kept = [choice for choice in choices.values() if choice.dropped is None]
    regions = [measure_region(photo.rgb, choice.mask) for choice in kept]
    assigned: dict[int, Assignment] = {}
    for phrase in phrases:
        own = described.get(phrase.text.casefold())
        if own is not None:
            matches = [own]
        else:
            scores = match_scores(phrase.text, regions)
            order = sorted(range(len(kept)), key=lambda n: -scores[n])
            matches = [kept[n].proposal for n in order if scores[n] >= MATCH_THRESHOLD]
        if not matches:
            log.warning("%s", explain_no_match(phrase.text))
        instance = 0
        for proposal in matches:
            if proposal not in assigned:
                assigned[proposal] = Assignment(phrase.number, phrase.text, instance)
                instance += 1
            elif phrase.text not in (assigned[proposal].phrase, *assigned[proposal].aliases):
                assigned[proposal].aliases += (phrase.text,)
    return assigned


def _number_the_rest(
    photo: Photo, phrases: Sequence[Phrase], choices: Mapping[int, Choice], assigned: dict[int, Assignment]
) -> None:
    """Add the other proposals to `assigned`: to the phrase of the object they lost to, or under a new number."""
    remaining = []
    for proposal, choice in choices.items():
        if proposal in assigned:
            continue
        winner = _winner(proposal, choices)
        if winner in assigned and choice.dropped is not None:
            phrase = assigned[winner]
            instance = 1 + max(other.instance for other in assigned.values() if other.number == phrase.number)
            assigned[proposal] = Assignment(phrase.number, phrase.phrase, instance)
        else:
            remaining.append(proposal)
    texts = describe([measure_region(photo.rgb, choices[proposal].mask) for proposal in remaining])
    first = max((phrase.number for phrase in phrases), default=-1) + 1
    for number, (proposal, text) in enumerate(zip(remaining, texts, strict=True), start=first):
        assigned[proposal] = Assignment(number, text, 0)


def _winner(proposal: int, choices: Mapping[int, Choice]) -> int:
    """The proposal that a dropped one lost to, directly or through others; itself when it lost to none."""
    visited: set[int] = set()
    while choices[proposal].because_of and proposal not in visited:
        visited.add(proposal)
        proposal = choices[proposal].because_of[0]
    return proposal


def _instance_mask(choice: Choice, assigned: Mapping[int, Assignment], requested: bool) -> InstanceMask:
    assignment = assigned[choice.proposal]
    reason = choice.reason(lambda other: assigned[other].object_id)
    if reason is None and not requested:
        reason = "no phrase asks for it"
    return InstanceMask(assignment.object_id, assignment.phrase, choice.mask, choice.score, assignment.aliases, reason)
