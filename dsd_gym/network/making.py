"""Which link a device has: its own or its site's, the plain one or the detailed."""

from __future__ import annotations

from collections.abc import Sequence

from dsd_gym.network.detailed import DetailedLink
from dsd_gym.network.link import Link
from dsd_gym.scenario import EdgeClass, LinkSpec


def make_link(spec: LinkSpec, seed: int, device: int) -> Link:
    """Return a link with the luck of `device`: the plain one, which is faster, where it will do."""
    plain = spec.queueing == "none" and not (spec.trace or spec.loss or spec.outages or spec.handover)
    return Link(spec, seed, device) if plain else DetailedLink(spec, seed, device)


def make_links(edges: Sequence[EdgeClass], default: LinkSpec, seed: int) -> list[Link]:
    """Return the link of each device; those of one site share one where it queues by site.

    Classes of a site whose link settings differ do not share. A shared link has the luck of its first device.
    """
    links: list[Link] = []
    shared: dict[tuple[str, LinkSpec], Link] = {}
    for edge in edges:
        spec = edge.link or default
        key = edge.site, spec
        for _ in range(edge.count):
            link = shared.get(key) or make_link(spec, seed, len(links))
            links.append(link)
            if spec.queueing == "site":
                shared[key] = link
    return links
