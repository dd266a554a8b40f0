"""Masks without SAM: the regions the embedded net proposes, chosen among by the words of the phrases."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sam3d_gs.embedded.language.region_attributes import look_at
from sam3d_gs.embedded.language.words import MATCH, describe, match, why_nothing
from sam3d_gs.embedded.proposals.objects import objects_of
from sam3d_gs.embedded.proposals.selection import Choice
from sam3d_gs.engines.phrases_embedded import LICENCES, named_objects
from sam3d_gs.options import MaskOptions
from sam3d_gs.types import InstanceMask, Photo, Phrase
from sam3d_gs.workspace import object_id

log = logging.getLogger("sam3d_gs")


@dataclass
class _Claim:
    """Which phrase a proposal goes under."""

    number: int
    phrase: str
    instance: int
    aliases: tuple[str, ...] = ()

    @property
    def object_id(self) -> str:
        return object_id(self.number, self.phrase, self.instance)


class EmbeddedMasks:
    """A phrase of the embedded phrases engine finds its own region again; any other is read for the words it holds."""

    licences: Mapping[str, str] = LICENCES

    def __init__(self, options: MaskOptions) -> None:
        self._options = options

    def masks(self, photo: Photo, phrases: Sequence[Phrase]) -> list[InstanceMask]:
        """Every proposal for the photo: first the objects the phrases ask for, then the others with a reason."""
        choices = {c.proposal: c for c in objects_of(photo, self._options)}
        claims = _asked_for(photo, phrases, choices)
        asked = list(claims)
        _claim_the_rest(photo, phrases, choices, claims)
        found = [_instance(choices[proposal], claims, proposal in asked) for proposal in claims]
        return sorted(found, key=lambda mask: mask.dropped is not None)  # stable: in the order of the phrases


def _asked_for(photo: Photo, phrases: Sequence[Phrase], choices: Mapping[int, Choice]) -> dict[int, _Claim]:
    """Proposal -> claim of the first phrase that means it; later ones become aliases."""
    described = {text.casefold(): choice.proposal for text, choice in named_objects(photo)}
    kept = [choice for choice in choices.values() if choice.dropped is None]
    looks = [look_at(photo.rgb, choice.mask) for choice in kept]
    claims: dict[int, _Claim] = {}
    for phrase in phrases:
        own = described.get(phrase.text.casefold())
        if own is not None:
            wanted = [own]
        else:
            scores = match(phrase.text, looks)
            order = sorted(range(len(kept)), key=lambda n: -scores[n])
            wanted = [kept[n].proposal for n in order if scores[n] >= MATCH]
        if not wanted:
            log.warning("%s", why_nothing(phrase.text))
        instance = 0
        for proposal in wanted:
            if proposal not in claims:
                claims[proposal] = _Claim(phrase.number, phrase.text, instance)
                instance += 1
            elif phrase.text not in (claims[proposal].phrase, *claims[proposal].aliases):
                claims[proposal].aliases += (phrase.text,)
    return claims


def _claim_the_rest(
    photo: Photo, phrases: Sequence[Phrase], choices: Mapping[int, Choice], claims: dict[int, _Claim]
) -> None:
    """Give the other proposals their ids: under the phrase of the object they lost to, else a number of their own."""
    free = []
    for proposal, choice in choices.items():
        if proposal in claims:
            continue
        winner = _winner(proposal, choices)
        if winner in claims and choice.dropped is not None:
            under = claims[winner]
            instance = 1 + max(claim.instance for claim in claims.values() if claim.number == under.number)
            claims[proposal] = _Claim(under.number, under.phrase, instance)
        else:
            free.append(proposal)
    texts = describe([look_at(photo.rgb, choices[proposal].mask) for proposal in free])
    first = max((phrase.number for phrase in phrases), default=-1) + 1
    for number, (proposal, text) in enumerate(zip(free, texts, strict=True), start=first):
        claims[proposal] = _Claim(number, text, 0)


def _winner(proposal: int, choices: Mapping[int, Choice]) -> int:
    """The kept proposal that a dropped one lost to in the end; itself when it lost to none."""
    seen: set[int] = set()
    while choices[proposal].because_of and proposal not in seen:
        seen.add(proposal)
        proposal = choices[proposal].because_of[0]
    return proposal


def _instance(choice: Choice, claims: Mapping[int, _Claim], asked: bool) -> InstanceMask:
    claim = claims[choice.proposal]
    reason = choice.reason(lambda other: claims[other].object_id)
    if reason is None and not asked:
        reason = "no phrase asks for it"
    return InstanceMask(claim.object_id, claim.phrase, choice.mask, choice.score, claim.aliases, reason)
