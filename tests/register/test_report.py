import base64
import io
import re
from pathlib import Path

from PIL import Image

from facegan.register.report import markdown


def test_a_report_is_a_page_with_a_table_links_and_the_picture_in_it(tmp_path: Path) -> None:
    picture = tmp_path / "samples.png"
    Image.new("L", (64, 32), 200).save(picture)
    rows = [("FID", "74.3 ± 1.8"), ("gate", "better | by 5"), ("champion", "word " * 20)]
    page = markdown("faces", rows, [("run", "http://127.0.0.1:5000/#/runs/1")], picture)
    assert page.startswith("# faces\n\n| | |\n|---|---|\n| FID | 74.3 ± 1.8 |\n")
    assert "| gate | better \\| by 5 |" in page
    assert f"| champion | {'word ' * 15}word<br>word word word word |" in page  # Prefect cuts lines
    assert "[run](http://127.0.0.1:5000/#/runs/1)" in page
    found = re.search(r"!\[samples\]\(data:image/jpeg;base64,(\S+)\)", page)
    assert found
    with Image.open(io.BytesIO(base64.b64decode(found[1]))) as image:
        assert (image.format, image.size) == ("JPEG", (64, 32))
