"""The servers that a project may use: MLflow, Prefect, S3."""

import base64
import http.client
import os
import tomllib
import urllib.error
import urllib.request
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from facegan.core.errors import FaceganError
from facegan.core.parsing import parse_json
from facegan.doctor.findings import Finding, ok, problem, warning

TIMEOUT = 5.0  # seconds
NO_PREFECT = "no server: each run starts a temporary one, and there are no schedules"
START_PREFECT = "run `prefect server start`, and set PREFECT_API_URL=http://127.0.0.1:4200/api"


def mlflow() -> Finding:
    """Whether MLflow's server or store answers this client."""
    from facegan.core.addresses import public
    from facegan.tracking import connection

    uri = connection.tracking_uri()
    if not connection.has_store():
        return ok(f"{uri.partition(':///')[2]} does not exist yet; the first training creates it")
    connection.connect(create=False)
    return ok(f"{public(uri)} answers")


def prefect() -> Finding:
    """Whether Prefect's server answers, takes our credentials and is of our version."""
    url, login = _split((_prefect_setting("PREFECT_API_URL") or "").rstrip("/"))
    if not url:
        return ok(NO_PREFECT)
    try:
        if _get(f"{url}/health") is not True:
            return problem(f"{url}: no Prefect API", "PREFECT_API_URL ends in /api")
        theirs = str(_get(f"{url}/admin/version", _prefect_credentials(login)))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            advice = "set PREFECT_API_AUTH_STRING=USER:PASSWORD, or PREFECT_API_KEY"
            return problem(f"{url} refuses access ({error.code})", advice)
        return problem(f"{url} answers {error.code}", "PREFECT_API_URL ends in /api; see its log")
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        return problem(f"{url} does not answer ({reason})", f"{START_PREFECT}, or unset it")
    except ValueError:  # a page, deep JSON, or not a URL
        return problem(f"{url}: no Prefect API", "PREFECT_API_URL=http://HOST:4200/api")
    ours = metadata.version("prefect")
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        return warning(f"{url} is Prefect {theirs}; here is {ours}", "upgrade the older one")
    return ok(f"{url} answers, version {theirs}")


def _get(url: str, headers: dict[str, str] | None = None) -> Any:
    request = urllib.request.Request(url, headers=headers or {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        return parse_json(response.read())


def _prefect_setting(name: str) -> str | None:
    """A setting of the environment, else of Prefect's active profile."""
    if name in os.environ:
        return os.environ[name]
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    path = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml"))
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    active = os.environ.get("PREFECT_PROFILE", content.get("active"))
    try:
        value = content.get("profiles", {}).get(active, {}).get(name)
    except (AttributeError, TypeError):
        raise FaceganError(f"{path}: no profiles of Prefect; correct or delete it") from None
    return None if value is None else str(value)


def _split(url: str) -> tuple[str, str]:
    """An address without its USER:PASSWORD, and these: errors of urllib repeat them as a port."""
    start, slashes, rest = url.partition("://")
    login, at, rest = rest.rpartition("@")
    return (f"{start}{slashes}{rest}", unquote(login)) if at else (url, "")


def _prefect_credentials(login: str) -> dict[str, str]:
    """As Prefect: its own setting first, then the address's.

    Args:
        login: USER:PASSWORD of the address; empty if it has none.
    """
    if login := _prefect_setting("PREFECT_API_AUTH_STRING") or login:
        return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    if key := _prefect_setting("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    return {}


def s3() -> Finding:
    """Whether the S3 server of AWS's environment answers and takes the credentials."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    credentials = {"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ROLE_ARN"} & os.environ.keys()
    configured = endpoint or credentials or Path("~/.aws/credentials").expanduser().exists()
    if not configured:
        return ok("no endpoint or keys in the environment; needed for s3:// addresses only")
    from facegan.photos import s3 as objects

    server = endpoint or "AWS"
    with objects.translate_errors(server):
        client = objects.client()
        if not isinstance(client.meta.config.signature_version, str):  # botocore.UNSIGNED
            advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            return warning(f"{server}: no credentials; only public buckets can be read", advice)
        try:
            buckets = client.list_buckets()["Buckets"]
        except client.exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") != "AccessDenied":
                raise
            # A role of least privilege may not list buckets; but the signature was accepted.
            return ok(f"{server} answers, and knows these credentials")
    return ok(f"{server} answers, {len(buckets)} buckets")
