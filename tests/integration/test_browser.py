"""Prefect's and MLflow's pages in a real Chromium, used as people use them."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from browser import DESKTOP, chromium
from flows import Api, Environment, prefect_server, serving
from project import Project
from servers import mlflow_ui, wait

pytestmark = pytest.mark.faults
NIGHTLY = ("--cron", "0 3 * * *", "--paused", "--name", "nightly")
SECOND = 1000
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as browser, browser.new_page(viewport=DESKTOP) as page:
        page.set_default_timeout(60 * SECOND)
        expect.set_options(timeout=60 * SECOND)
        yield page


@pytest.fixture(scope="module")
def environment(
    finished: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    """That of the project, with a Prefect server and its page."""
    home, folder = (tmp_path_factory.mktemp(name) for name in ("home", "server"))
    kept = {k: v for k, v in finished.environment.items() if not k.startswith("PREFECT_")}
    kept |= {"PREFECT_HOME": str(home), "PYTHONPATH": f"{finished.folder}:{kept['PYTHONPATH']}"}
    with prefect_server(kept, folder) as url:
        yield kept | {"PREFECT_API_URL": url}


@pytest.fixture
def api(environment: Environment) -> Iterator[Api]:
    api = Api(environment["PREFECT_API_URL"])
    yield api
    api.client.close()


def test_a_run_started_on_prefects_page_completes_and_shows_its_picture(
    finished: Project, environment: Environment, api: Api, page: Page
) -> None:
    with serving(environment, finished.folder, *NIGHTLY):
        site = environment["PREFECT_API_URL"].removesuffix("/api")
        page.goto(f"{site}/deployments")
        page.get_by_text("nightly").first.click()
        page.get_by_role("button", name="Run", exact=True).click()
        page.get_by_text("Custom run").click()
        uncommitted = page.get_by_role("switch").nth(2)
        expect(page.get_by_text("allow_uncommitted")).to_be_visible()
        uncommitted.click()
        expect(uncommitted).to_have_attribute("aria-checked", "true")
        name = page.locator("input").first.input_value()
        page.get_by_role("button", name="Submit").click()
        page.get_by_text(name).first.click()
        page.wait_for_url("**/flow-run/*")
        run = f"/flow_runs/{page.url.rpartition('/')[2].partition('?')[0]}"
        wait(lambda: api.get(run)["state"]["type"] in ENDED, 400)
    found = api.get(run)
    assert (found["state"]["type"], found["parameters"]["allow_uncommitted"]) == ("COMPLETED", True)
    expect(page.get_by_text("Completed").first).to_be_visible()
    page.get_by_text("Artifacts", exact=True).first.click()
    page.locator("a[href*='/artifacts/artifact/']").first.click()
    expect(page.get_by_text("facegan-test version 1, Production, @champion")).to_be_visible()
    picture = page.locator("img").first
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100


def test_mlflows_page_shows_the_versions_stage_alias_and_card(
    finished: Project, page: Page
) -> None:
    with mlflow_ui(finished.folder) as url:
        page.goto(f"{url}/#/models/facegan-test/versions/1?workflowType=machine_learning")
        for text in ("Production", "champion", "Generates 32x32 grey images"):
            expect(page.get_by_text(text).first).to_be_visible()
