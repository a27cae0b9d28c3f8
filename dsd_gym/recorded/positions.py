"""From rounds to positions: which output positions a round tested, and how they came out."""

from __future__ import annotations

from collections.abc import Sequence


class Positions:
    """The output positions of one request, put together round by round.

    `accepted` and `confidence` are as in `RecordedRequest`. Position 0 is there from the start: the first token
    comes from the prefill.
    """

    def __init__(self) -> None:
        self.accepted: list[bool | None] = [None]
        self.confidence: list[float | None] = [None]

    @property
    def count(self) -> int:
        """Return the output positions so far: the tokens committed."""
        return len(self.accepted)

    def cloud(self, tokens: int) -> None:
        """Add tokens that the target decoded alone: nobody asked the draft."""
        self.accepted += [None] * tokens
        self.confidence += [None] * tokens

    def window(self, drafted: int, accepted: int, committed: int, confidences: Sequence[float] = ()) -> None:
        """Add a verified window: so many accepted true, the next false, and what came after it was never a test.

        `committed` counts the accepted drafts and the target's own token, which takes the place of the first
        rejected draft (tested: false) or, where all were accepted, comes after them (the bonus: nobody drafted
        there, so not tested). At the end of an output the target may add none.

        Drafts behind the first rejected one were drafted on a wrong beginning: the next round drafts their
        positions again, and neither their fate nor their confidence says anything of the position.
        """
        if not (0 <= accepted <= drafted and accepted <= committed <= accepted + 1):
            raise ValueError(f"{drafted} drafted, {accepted} accepted and {committed} committed make no round")
        tested = [True] * accepted + [False] * (accepted < drafted)
        read = [*confidences[:drafted], *[None] * (drafted - len(confidences)), None]
        self.accepted += [*tested, None][:committed]
        self.confidence += read[:committed]
