"""The report in a real browser; skipped where there is none. CHROMIUM names one that is not on the path."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from dsd_gym.comparison.evaluation import WindowMap
from dsd_gym.comparison.report.page import report
from dsd_gym.config import to_dict
from dsd_gym.scenario import Scenario
from tests.report_pages import NASTY, NASTY_POLICY, chosen

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
WIDTHS = (360, 390, 768, 1280)

MEASURE = """<!DOCTYPE html><body><script>
const found = {};
for (const width of WIDTHS) {
  const frame = document.createElement('iframe');
  frame.width = width; frame.height = 900; frame.src = 'report.html';
  frame.onload = () => {
    const page = frame.contentDocument.scrollingElement;
    const loads = frame.contentWindow.performance.getEntriesByType('resource').map(entry => entry.name);
    const beyond = [...frame.contentDocument.querySelectorAll('body *')]
      .filter(node => !node.closest('.scroll, .drawing, pre'))
      .filter(node => node.getBoundingClientRect().right > page.clientWidth + 0.5);
    const letters = [...frame.contentDocument.querySelectorAll('svg')]
      .map(svg => 10 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width);
    found[width] = {
      scroll: page.scrollWidth, client: page.clientWidth, beyond: beyond.map(node => node.outerHTML.slice(0, 80)),
      loads: loads.filter(name => !name.startsWith('data:')), letters: Math.min(...letters),
    };
    document.title = JSON.stringify(found);
  };
  document.body.append(frame);
}
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on the path, and CHROMIUM names none")
def test_the_page_fits_its_window_and_loads_nothing(tmp_path: Path) -> None:
    specs = [f"controller-{index}" for index in range(14)] + [NASTY_POLICY]
    values = {spec: [20.0 + index, 21.0, 22.0, 23.0] for index, spec in enumerate(specs)}
    evaluation = chosen({"calm": values, NASTY: values, "long_" * 30: values}, reference=specs[0])
    maps = tuple(
        WindowMap(specs[0], "target", batch, (2.0, 300.0), (0.3, 0.9), ((0, 1), (2, 3)), 4) for batch in (2, 9)
    )
    configs = {name: to_dict(Scenario(name=name, description="x" * 200)) for name in evaluation.scores}
    whole = replace(evaluation, configs=configs, window_maps=maps, command="word " * 9 + "y" * 300)
    (tmp_path / "report.html").write_text(report(whole))
    found = measured(tmp_path)
    assert sorted(map(int, found)) == sorted(WIDTHS)
    for width, page in found.items():
        assert page["scroll"] <= page["client"] <= int(width) and page["beyond"] == []
        assert page["loads"] == []
        assert page["letters"] >= 9.0  # CSS pixels of a 10-point letter


def measured(folder: Path) -> dict[str, dict[str, object]]:
    """Open the page in frames of each width and return what it measures there."""
    (folder / "measure.html").write_text(MEASURE.replace("WIDTHS", json.dumps(WIDTHS)))
    switches = (
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--allow-file-access-from-files",
        f"--user-data-dir={folder}/profile", "--virtual-time-budget=20000", "--timeout=60000", "--dump-dom",
    )  # fmt: skip
    command = [str(BROWSER), *switches, (folder / "measure.html").as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=180)
    title = re.search(r"<title>(.*?)</title>", run.stdout)
    assert title, run.stderr[-2000:]
    return dict(json.loads(unescape(title[1])))
