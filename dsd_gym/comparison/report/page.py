"""The whole page, written in one piece: page.html filled in.

    write_report(evaluation, folder / "report.html")

The page loads nothing, runs no script and holds nothing of the machine that made it.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from string import Template

from dsd_gym.comparison.evaluation import Evaluation
from dsd_gym.comparison.report.markup import Html, definitions, element, joined
from dsd_gym.comparison.report.pictures import available, drawing, overall_pictures, scenario_pictures
from dsd_gym.comparison.report.ranking import Ranking
from dsd_gym.comparison.report.results import anchor, results
from dsd_gym.comparison.report.scenario import NOT_RECORDED, scenario_section
from dsd_gym.comparison.report.words import listed, summary
from dsd_gym.comparison.tables import notes
from dsd_gym.config import ConfigError
from dsd_gym.files import write_atomically

NO_PICTURES = "There are no pictures: matplotlib was not installed where this page was made."


def write_report(evaluation: Evaluation, path: Path) -> Path:
    """Write the page; ConfigError where it cannot be written."""
    try:
        write_atomically(path, report(evaluation))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    return path


def report(evaluation: Evaluation) -> Html:
    """Return the page."""
    folder = files(__package__)
    with drawing():
        parts = {
            "title": element("title", f"Window controllers compared: {_subject(evaluation)}"),
            "style": Html((folder / "style.css").read_text(encoding="utf-8")),
            "subject": element("p", _subject(evaluation), class_="subject"),
            "summary": element("p", summary(evaluation), id="summary"),
            "contents": _contents(evaluation),
            "results": results(evaluation),
            "pictures": _overall_pictures(evaluation),
            "scenarios": _scenarios(evaluation),
            "made": _made(evaluation),
        }
    return Html(Template((folder / "page.html").read_text(encoding="utf-8")).substitute(parts))


def _subject(evaluation: Evaluation) -> str:
    return (
        f"{_counted(evaluation.controllers, 'controller')} in {_counted(evaluation.scores, 'scenario')}, "
        f"{_counted(evaluation.seeds, 'seed')} each"
    )


def _counted(things: object, name: str) -> str:
    count = len(things)  # type: ignore[arg-type]
    return f"{count} {name}{'' if count == 1 else 's'}"


def _contents(evaluation: Evaluation) -> Html:
    """Return the links to the scenarios' sections."""
    links = (element("a", name, href=f"#{anchor(evaluation, name)}") for name in evaluation.scores)
    return element("ul", *(element("li", link) for link in links))


def _overall_pictures(evaluation: Evaluation) -> Html:
    if not available():
        return element("p", NO_PICTURES, class_="note")
    return element("div", *overall_pictures(evaluation), class_="pictures overall")


def _scenarios(evaluation: Evaluation) -> Html:
    ranking = Ranking(evaluation)
    return joined(scenario_section(ranking, name, scenario_pictures(evaluation, name)) for name in evaluation.scores)


def _made(evaluation: Evaluation) -> Html:
    """Return what it takes to make the figures again, and how they were made."""
    versions = {"dsd-gym": evaluation.package_version, **evaluation.versions}
    known = ", ".join(f"{name} {version}" for name, version in versions.items())
    facts = [
        ("Versions", known if evaluation.versions else f"{known}. Others: {NOT_RECORDED.lower()}"),
        ("Seeds", listed([str(seed) for seed in evaluation.seeds])),
        ("Controllers", ", ".join(evaluation.controllers)),
    ]
    command = evaluation.command or "not run from the command line"
    lines = (element("li", note) for note in notes(evaluation))
    return joined([element("pre", element("code", command), tabindex="0"), definitions(facts), element("ul", *lines)])
