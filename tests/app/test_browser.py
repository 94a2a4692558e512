"""The page in a real Chromium, from a real `facegan app` with a real registry."""

import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, Locator, Page, expect

from browser import DESKTOP, PHONE, chromium
from conftest import enter
from facegan.register import catalog
from facegan.sample import metadata
from facegan.tracking import connection
from registrations import NAME
from servers import answers, free_port, wait
from stores import Sqlite

SIDES = ("left", "right")
WIDTHS = {"desktop": DESKTOP, "phone": PHONE}
# Of Gradio, about requests that it gave up, on a busy machine.
GIVEN_UP = ("AbortError", "errored out")

pytestmark = pytest.mark.faults
expect.set_options(timeout=30_000)


@dataclass
class Server:
    """`facegan app`, and the folder of its registry."""

    folder: Path
    url: str


@pytest.fixture(scope="module")
def server(
    registered: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, folder, Sqlite(empty_store).load(registered, folder))
        shutil.copy(registered / "params.yaml", folder)
        port = free_port()
        command = [str(Path(sys.executable).with_name("facegan")), "app", "--port", str(port)]
        log = folder / "log"
        with log.open("w") as output:
            process = subprocess.Popen(
                command, env=os.environ | {"FACEGAN_DEVICE": "cpu"}, stdout=output, stderr=output
            )
        url = f"http://127.0.0.1:{port}"
        try:
            wait(lambda: process.poll() is not None or answers(url))
            yield Server(folder, url)
        finally:
            process.terminate()
            assert process.wait(30) == 0, log.read_text()
    assert log.read_text().splitlines() == [f"{NAME}: {url}", "Ctrl-C stops the server"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module", params=WIDTHS)
def page(request: pytest.FixtureRequest, browser: Browser, server: Server) -> Iterator[Page]:
    """The page, which the tests of one width use one after the other."""
    context = browser.new_context(
        viewport=WIDTHS[request.param],
        has_touch=request.param == "phone",
        accept_downloads=True,
    )
    page = context.new_page()
    hosts, complaints = set[str](), list[str]()
    page.on("request", lambda sent: hosts.add(sent.url.partition("//")[2].partition("/")[0]))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.goto(server.url)
    expect(faces(page).first).to_be_visible()
    yield page
    assert hosts - {""} == {server.url.removeprefix("http://")}
    assert [text for text in complaints if not any(part in text for part in GIVEN_UP)] == []
    context.close()


def faces(page: Page, gallery: str = "faces") -> Locator:
    return page.locator(f"#{gallery} .grid-container img")


def sources(images: Locator) -> list[str]:
    return [str(image.get_attribute("src")) for image in images.all()]


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def test_random_faces_are_there_at_once_and_new_ones_on_request(page: Page) -> None:
    before = sources(faces(page))
    assert len(before) == 12 and fits(page)
    page.locator("#new-faces").click()
    expect(faces(page).first).not_to_have_attribute("src", before[0])
    assert not set(before) & set(sources(faces(page)))


def test_seed_count_and_truncation_draw_at_once(page: Page) -> None:
    page.get_by_label("First seed").first.fill("42")
    expect(faces(page).first).to_have_attribute("alt", "seed 42")
    (plain, *_) = sources(faces(page))
    page.get_by_label("number input for Faces").fill("3")
    expect(faces(page)).to_have_count(3)
    page.get_by_label("Truncate").first.check()
    expect(faces(page).first).not_to_have_attribute("src", plain)
    assert "version1-seed0000000042-truncation1.png" in sources(faces(page))[0]
    assert fits(page)
    page.get_by_label("Truncate").first.uncheck()
    expect(faces(page).first).to_have_attribute("src", plain)


def test_a_face_is_kept_with_its_seed_by_keyboard_alone_and_after_a_reload(page: Page) -> None:
    page.get_by_role("button", name="Thumbnail 2 of 3").first.focus()
    page.keyboard.press("Enter")
    keep = page.get_by_role("button", name="Keep seed 43")
    expect(keep).to_be_enabled()
    keep.focus()
    page.keyboard.press("Enter")
    expect(faces(page, "tray")).to_have_count(1)
    expect(faces(page, "tray")).to_have_attribute("alt", "seed 43")
    assert fits(page)
    page.reload()
    expect(faces(page, "tray")).to_have_attribute("alt", "seed 43")
    expect(faces(page).first).to_be_visible()


def test_what_is_kept_is_downloaded_with_where_it_comes_from(page: Page, tmp_path: Path) -> None:
    with page.expect_download() as download:
        page.get_by_role("button", name="Download all").click()
    content = io.BytesIO(download.value.path().read_bytes())
    with zipfile.ZipFile(content) as archive:
        assert archive.namelist() == ["version1-seed0000000043.png"]
        archive.extractall(tmp_path)
    text = metadata.read(tmp_path / "version1-seed0000000043.png")
    assert (text[metadata.MODEL], text[metadata.VERSION]) == (NAME, "1")
    assert text[metadata.SEEDS] == "43"
    faces(page, "tray").click()
    with page.expect_download() as download:
        page.locator("#tray").get_by_label("Download").click()
    assert download.value.suggested_filename == "version1-seed0000000043.png"
    assert metadata.read(download.value.path().rename(tmp_path / "one.png")) == text
    page.get_by_role("button", name="Remove chosen").click()
    expect(page.get_by_text("No face is kept yet")).to_be_visible()


def test_a_slider_morphs_while_it_is_dragged_and_by_arrow_keys(page: Page) -> None:
    open_tab(page, "Morph")
    morph = page.locator("#morph [role=img]")
    expect(morph).to_be_visible()
    assert fits(page)
    shown = "e => parseFloat(getComputedStyle(e).backgroundPositionY)"
    slider = page.locator("#share input[type=range]")
    box = slider.bounding_box()
    assert box is not None
    y, positions = box["y"] + box["height"] / 2, [morph.evaluate(shown)]
    page.mouse.move(box["x"] + 8, y)
    page.mouse.down()
    for step in range(1, 6):
        page.mouse.move(box["x"] + 8 + (box["width"] - 16) * step / 5, y)
        positions.append(morph.evaluate(shown))
    assert positions == sorted(set(positions)) and positions[-1] > 95
    page.mouse.up()
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    expect(slider).to_have_value("0.97")
    assert morph.evaluate(shown) < positions[-1]
    before = morph.get_attribute("style")
    page.locator("#new-pair").click()
    expect(morph).not_to_have_attribute("style", str(before))


def test_two_versions_stand_side_by_side_on_the_same_latents(page: Page) -> None:
    open_tab(page, "Compare")
    expect(faces(page, "right")).to_have_count(9)
    assert fits(page)
    seeds = [[image.get_attribute("alt") for image in faces(page, s).all()] for s in SIDES]
    assert seeds[0] == seeds[1]
    assert all("version1-" in source for source in sources(faces(page, "left")))
    assert all("version2-" in source for source in sources(faces(page, "right")))
    left, right = (page.locator(f"#{side}").bounding_box() for side in SIDES)
    assert left and right and left["y"] == right["y"] and left["x"] < right["x"]
    page.get_by_label("Version on the left").click()
    page.get_by_role("option", name=re.compile("^2")).click()
    expect(faces(page, "left").first).to_have_attribute("src", sources(faces(page, "right"))[0])


def test_the_film_or_why_there_is_none_and_the_model_card(page: Page) -> None:
    open_tab(page, "Film")
    expect(page.get_by_text("has 0 sample grids in MLflow")).to_be_visible()
    open_tab(page, "Model")
    expect(page.locator("#card")).to_contain_text("Scores under protocol")
    expect(page.locator("#card table")).to_contain_text("FID")
    assert fits(page)


def test_a_new_champion_is_told_and_loaded_on_request(page: Page, server: Server) -> None:
    catalog.make_champion(connection.connect(), NAME, 2)
    try:
        expect(page.locator("#notice")).to_contain_text("Version 2 is the champion now.")
        open_tab(page, "Faces")
        assert all("version1-" in source for source in sources(faces(page)))
        page.get_by_role("button", name="Load version 2").click()
        expect(faces(page).first).to_have_attribute("src", re.compile("version2-"))
        expect(page.locator("#notice")).to_be_hidden()
    finally:
        catalog.make_champion(connection.connect(), NAME, 1)


def test_a_registry_that_goes_away_is_a_message_and_the_page_goes_on(
    page: Page, server: Server
) -> None:
    store, away = server.folder / "mlflow.db", server.folder / "away.db"
    store.rename(away)
    try:
        expect(page.locator("#notice")).to_contain_text("The registry cannot be read.")
        assert "Traceback" not in page.content() and fits(page)
        before = sources(faces(page))
        page.locator("#new-faces").click()
        expect(faces(page).first).not_to_have_attribute("src", before[0])
    finally:
        away.rename(store)
    expect(page.locator("#notice")).not_to_contain_text("cannot be read")


def test_the_api_draws_and_answers_what_is_out_of_bounds_with_one_line(server: Server) -> None:
    client = Client(server.url, verbose=False)
    uris = client.predict(seed=5, count=2, truncation=1.5, api_name="/faces")
    assert [uri[:22] for uri in uris] == ["data:image/png;base64,"] * 2
    assert client.predict(first=1, second=2, share=0.5, api_name="/morph").startswith("data:image")
    assert [v["version"] for v in client.predict(api_name="/versions")] == [2, 1]
    assert "Scores" in client.predict(version=2, api_name="/card")
    for arguments, line in (
        ({"seed": -1}, "seed -1: valid: whole numbers from 0 to 4294967295"),
        ({"count": 10**9}, "count 1000000000: valid: whole numbers from 1 to 32"),
        ({"truncation": 99}, "truncation 99: valid: numbers from 0.1 to 3"),
        ({"version": [7]}, f"{NAME} has no version [7]; the last ones: 2, 1"),
        ({"version": "<b>"}, f"{NAME} has no version '&lt;b&gt;'; the last ones: 2, 1"),
    ):
        with pytest.raises(AppError) as raised:
            client.predict(**arguments, api_name="/faces")
        assert str(raised.value) == line
