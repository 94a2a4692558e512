"""The CloudFormation template, applied to moto's AWS with IAM's rules enforced.

moto has no bucket policies, and leaves out versioning, lifecycle rules and deletion protection.
"""

import ast
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError
from PIL import Image

import buckets
from facegan.fetch.stage import fetch
from facegan.photos import s3
from facegan.tracking.commands import output
from project import ROOT

TEMPLATE = ROOT / "infra" / "aws" / "facegan.yaml"
WORKER = {"AWS_DEFAULT_REGION", "MLFLOW_TRACKING_URI", "PREFECT_API_URL", "FACEGAN_INCEPTION"}
SERVERS = {
    *("MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION"),
    "PREFECT_API_DATABASE_CONNECTION_URL",
}


@dataclass(frozen=True)
class Stack:
    """The applied template; outputs are by their descriptions, which are variables' names."""

    url: str
    outputs: dict[str, str]

    def client(self, service: str, **credentials: str) -> Any:
        region = "us-east-1"
        known = {"aws_access_key_id": buckets.KEY, "aws_secret_access_key": buckets.SECRET}
        options = {"endpoint_url": self.url, "region_name": region, **(credentials or known)}
        return boto3.client(service, **options)

    def credentials(self, role: str) -> dict[str, str]:
        roles = self.client("iam").list_roles()["Roles"]
        (arn,) = (found["Arn"] for found in roles if f"-{role}-" in found["RoleName"])
        found = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
        return {
            "AWS_ACCESS_KEY_ID": found["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
            "AWS_SESSION_TOKEN": found["SessionToken"],
        }


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with buckets.moto(tmp_path_factory.mktemp("moto")) as url:
        empty = Stack(url, {})
        ec2, formation = empty.client("ec2"), empty.client("cloudformation")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{n}.0/24")["Subnet"]["SubnetId"]
            for n in range(2)
        ]
        password = '{"password": "not-to-be-shown"}'
        empty.client("secretsmanager").create_secret(Name="facegan-database", SecretString=password)
        parameters = {"Vpc": vpc, "Subnets": ",".join(subnets)}
        formation.create_stack(
            StackName="facegan",
            TemplateBody=TEMPLATE.read_text(),
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
        )
        (found,) = formation.describe_stacks(StackName="facegan")["Stacks"]
        assert found["StackStatus"] == "CREATE_COMPLETE"
        _make_policies_text(empty.client("iam"))
        outputs = {entry["Description"]: entry["OutputValue"] for entry in found["Outputs"]}
        yield Stack(url, outputs)


def _make_policies_text(iam: Any) -> None:
    """moto enforces policies that are text, and keeps a template's as mappings."""
    for role in iam.list_roles()["Roles"]:
        name = {"RoleName": role["RoleName"]}
        for policy in iam.list_role_policies(**name)["PolicyNames"]:
            found = iam.get_role_policy(**name, PolicyName=policy)["PolicyDocument"]
            text = json.dumps(ast.literal_eval(found))
            iam.put_role_policy(**name, PolicyName=policy, PolicyDocument=text)


def test_the_outputs_are_the_variables_of_workers_and_servers(stack: Stack) -> None:
    assert set(stack.outputs) == WORKER | SERVERS
    assert stack.outputs["FACEGAN_INCEPTION"].startswith("s3://facegan-data-")
    assert stack.outputs["PREFECT_API_URL"].startswith("http://10.0.0.")
    assert not any("@" in stack.outputs[name] for name in WORKER)
    assert stack.outputs["MLFLOW_BACKEND_STORE_URI"].startswith("postgresql://facegan@")


def test_nobody_from_outside_reaches_a_machine(stack: Stack) -> None:
    groups = stack.client("ec2").describe_security_groups()["SecurityGroups"]
    ids = {group["Description"].partition(" ")[0]: group["GroupId"] for group in groups}
    rules = [
        rule
        for group in groups
        if group["GroupName"] != "default"
        for rule in group["IpPermissions"]
    ]
    assert not any(rule["IpRanges"] or rule["Ipv6Ranges"] for rule in rules)
    sources = {(r["FromPort"], pair["GroupId"]) for r in rules for pair in r["UserIdGroupPairs"]}
    worker, server = ids["FaceGAN"], ids["MLflow"]
    assert sources == {(5000, worker), (4200, worker), (5432, server)}


def bucket_of(stack: Stack, variable: str) -> str:
    return urlsplit(stack.outputs[variable]).netloc


@pytest.fixture
def worker(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The data bucket; this process has the worker's role, and IAM's rules are enforced."""
    role = stack.credentials("WorkerRole")
    buckets.use(monkeypatch, stack.url, **role)
    enforce(stack, 0)
    yield bucket_of(stack, "FACEGAN_INCEPTION")
    enforce(stack, 10**9)


def enforce(stack: Stack, after: int) -> None:
    """Let moto enforce IAM's rules after so many requests."""
    plain = {"Content-Type": "text/plain"}
    url = f"{stack.url}/moto-api/reset-auth"
    urllib.request.urlopen(urllib.request.Request(url, str(after).encode(), plain)).close()


def test_a_worker_reads_and_writes_data_and_nothing_else(stack: Stack, worker: str) -> None:
    client = s3.client()
    client.put_object(Bucket=worker, Key="dvc/a", Body=b"a")
    assert client.get_object(Bucket=worker, Key="dvc/a")["Body"].read() == b"a"
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(Bucket=worker, Key="dvc/a")
    for call in (client.list_objects_v2, client.get_bucket_policy):
        with pytest.raises(ClientError, match="AccessDenied"):
            call(Bucket=bucket_of(stack, "MLFLOW_ARTIFACTS_DESTINATION"))


def test_a_worker_fetches_photographs_from_the_bucket(
    stack: Stack, worker: str, tmp_path: Path
) -> None:
    picture = tmp_path / "face.png"
    Image.new("L", (28, 28), 90).save(picture)
    s3.client().upload_file(str(picture), worker, "photographs/face.png")
    fetch(f"s3://{worker}/photographs", tmp_path / "data")
    assert (tmp_path / "data" / "face.png").read_bytes() == picture.read_bytes()


@pytest.mark.faults
def test_dvc_pushes_and_pulls_as_a_worker(
    worker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AWS_CONFIG_FILE")  # DVC reads it, and /dev/null is no file to it
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "face").write_bytes(b"face")
    for command in (
        "dvc init --no-scm --quiet",
        f"dvc remote add --quiet --default storage s3://{worker}/dvc",
        "dvc add --quiet data",
        "dvc push",
        "rm -r data .dvc/cache",
        "dvc pull",
    ):
        status, text = output(*command.split())
        assert status == 0, text
    assert (tmp_path / "data" / "face").read_bytes() == b"face"
