import threading

import pytest

from facegan.core.errors import FaceganError
from facegan.doctor.findings import Finding, ok, redact, run


def fail_with(error: Exception) -> Finding:
    raise error


def test_checks_run_side_by_side_and_are_reported_in_order() -> None:
    barrier = threading.Barrier(2, timeout=10)

    def meet() -> Finding:
        barrier.wait()
        return ok("met")

    assert list(run({"b": meet, "a": meet})) == [("b", ok("met")), ("a", ok("met"))]


def test_a_check_that_hangs_is_a_problem_and_hides_no_other() -> None:
    hung = threading.Event()

    def hang() -> Finding:
        hung.wait(30)
        return ok("too late")

    found = dict(run({"hangs": hang, "works": lambda: ok("fine")}, timeout=0.2))
    hung.set()
    assert found["works"] == ok("fine")
    assert found["hangs"].status == "problem" and "within 0.2 s" in found["hangs"].found


def test_an_error_is_a_problem_with_its_advice_and_a_bug_hides_no_other_check() -> None:
    found = dict(
        run({
            "error": lambda: fail_with(FaceganError("x: broken; mend it; soon")),
            "bug": lambda: fail_with(ZeroDivisionError("by zero")),
            "works": lambda: ok("fine"),
        })
    )  # fmt: skip
    assert found["error"] == Finding("problem", "x: broken", "mend it; soon")
    assert found["bug"].status == "problem" and "ZeroDivisionError: by zero" in found["bug"].found
    assert found["works"] == ok("fine")


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("AWS_SECRET_ACCESS_KEY", "not-to-be-shown", "not-to-be-shown"),
        ("PREFECT_API_AUTH_STRING", "admin:not-to-be-shown", "not-to-be-shown"),
        ("PREFECT_API_AUTH_STRING", "admin:not-to-be-shown", "admin:not-to-be-shown"),
        ("MLFLOW_TRACKING_TOKEN", "not-to-be-shown", "not-to-be-shown"),
        ("PGPASSWORD", "not-to-be-shown", "not-to-be-shown"),
    ],
)
def test_no_line_has_a_secret_of_the_environment(
    name: str, value: str, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    checks = {"a": lambda: Finding("problem", f"{secret} refused", f"not {secret}")}
    ((_, finding),) = run(checks)
    assert finding == Finding("problem", "*** refused", "not ***")


def test_no_line_has_users_or_queries_of_addresses() -> None:
    assert redact("postgresql://me:pw@db/x?sslpassword=y is down") == (
        "postgresql://***@db/x?*** is down"
    )


def test_what_is_too_short_for_a_secret_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USE_KEYS", "1")
    assert redact("1 file") == "1 file"


def test_an_address_in_a_sentence_is_shown_with_its_port() -> None:
    text = "http://127.0.0.1:9000: no answer; see http://host:42/api, (or https://host:7)."
    assert redact(text) == text
    assert redact("http://me:secret@host:9: no answer") == "http://***@host:9: no answer"
    assert redact("http://me:secret: no answer") == "http://***: no answer"
