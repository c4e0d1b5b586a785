"""README shows what `responder init` writes."""

from __future__ import annotations

import re
from pathlib import Path

from responder.app.setup.questions import Answers, setup_of, unattended

README = Path(__file__).parents[4] / "README.md"


async def test_readme_shows_the_written_configuration() -> None:
    text = README.read_text()
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", text, re.M | re.S)
    assert "responder init /etc/responder --service backend --root /srv/backend" in text
    url = "http://127.0.0.1:8080/health"
    answers = Answers(Path("/etc/responder"), services=("backend",), root=Path("/srv/backend"), health_url=url)
    setup, _ = await setup_of(answers, unattended)
    assert shown == setup.files()["responder.yml"]
