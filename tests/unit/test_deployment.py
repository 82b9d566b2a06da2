"""The deployment files agree with each other and with the settings."""

from __future__ import annotations

import re
import stat
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copy as copy_file
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.settings import Settings
from tests.support.deployment import (
    OUR_IMAGE,
    ROOT,
    VARIABLE,
    compose,
    dockerfile,
    example_variables,
    interpolated,
)

Compose = dict[str, Any]
SECRET = re.compile(r"PASSWORD|SECRET|KEY|TOKEN")
PINNED = re.compile(r"[^@]+:[^:@/]+@sha256:[0-9a-f]{64}")


def strings(node: Any) -> Iterator[str]:
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    yield from [node] if isinstance(node, str) else []
    for child in children:
        yield from strings(child)


def variables(file: Compose) -> list[tuple[str, str, str]]:
    """Return the name, the operator and the rest of each ${…}."""
    return [found[:3] for text in strings(file) for found in VARIABLE.findall(text) if found[0]]


def of_services(file: Compose, check: Callable[[Compose], list[str]]) -> list[str]:
    return [
        f"{name}: {fault}" for name, service in file["services"].items() for fault in check(service)
    ]


def dependencies_that_are_not_there(file: Compose) -> list[str]:
    return of_services(
        file,
        lambda service: [
            name for name in service.get("depends_on", {}) if name not in file["services"]
        ],
    )


def dependencies_that_cannot_hold(file: Compose) -> list[str]:
    """Find conditions on missing health checks, or on the end of services that restart."""

    def check(service: Compose) -> list[str]:
        faults = []
        for name, dependency in service.get("depends_on", {}).items():
            after, condition = file["services"].get(name, {}), dependency["condition"]
            if condition == "service_completed_successfully" and after.get("restart") != "no":
                faults.append(f"{name} never completes")
            if condition == "service_healthy" and "test" not in after.get("healthcheck", {}):
                faults.append(f"{name} is never healthy")
        return faults

    return of_services(file, check)


def volumes_undeclared_or_unused(file: Compose) -> list[str]:
    mounts = [
        mount for service in file["services"].values() for mount in service.get("volumes", [])
    ]
    used = {mount.split(":")[0] for mount in mounts if isinstance(mount, str)}
    return sorted(used ^ set(file["volumes"]))


def images_not_pinned(file: Compose) -> list[str]:
    return of_services(
        file,
        lambda service: [
            i for i in [service.get("image", "")] if i != OUR_IMAGE and not PINNED.fullmatch(i)
        ],
    )


def our_image_built_other_than_once(file: Compose) -> list[str]:
    builders = [name for name, service in file["services"].items() if "build" in service]
    return (
        []
        if len(builders) == 1 and file["services"][builders[0]]["image"] == OUR_IMAGE
        else builders or ["nobody"]
    )


def secrets_not_from_outside(file: Compose) -> list[str]:
    """Find secrets that are written down or have a default, instead of a ${NAME:?…}.

    The credentials before the @ of a URL are also a secret.
    """

    def check(service: Compose) -> list[str]:
        values = service.get("environment", {}).items()
        return [
            name
            for name, value in values
            if (SECRET.search(name) or "@" in value) and ":?" not in value
        ]

    defaults = [
        f"{name}={rest}"
        for name, operator, rest in variables(file)
        if SECRET.search(name) and operator != ":?" and rest
    ]
    return of_services(file, check) + defaults


def long_running_without_health_check(file: Compose) -> list[str]:
    """Find services without a health check. Our image has one for its command `serve`."""

    def check(service: Compose) -> list[str]:
        from_image = service["image"] == OUR_IMAGE and "command" not in service
        ends = service.get("restart") == "no"
        return (
            []
            if ends or from_image or "test" in service.get("healthcheck", {})
            else ["no health check"]
        )

    return of_services(file, check)


def open_to_others(file: Compose) -> list[str]:
    """Find services that are open to other machines or cannot be replicated.

    Only the API and the console publish ports, on 127.0.0.1 by default. Other services stay on the
    internal network. A fixed container name would prevent replicas.
    """

    def check(service: Compose) -> list[str]:
        faults = [
            port
            for port in service.get("ports", [])
            if not re.match(r"\$\{\w+:-127\.0\.0\.1:", port)
        ]
        if "ports" not in service and service["networks"] != ["stores"]:
            faults.append("on an outer network for nothing")
        return faults + [
            key for key in ("container_name", "privileged", "network_mode") if key in service
        ]

    published = {name for name, service in file["services"].items() if "ports" in service}
    internal = [] if file["networks"]["stores"].get("internal") else ["stores is not internal"]
    return of_services(file, check) + internal + sorted(published - {"api", "minio"})


def settings_that_are_not_there(file: Compose) -> list[str]:
    known = {f"LOOKALIKE_{name.upper()}" for name in Settings.model_fields}
    return of_services(
        file,
        lambda s: [
            n for n in s.get("environment", {}) if n.startswith("LOOKALIKE_") and n not in known
        ],
    )


def hosts_out_of_reach(file: Compose) -> list[str]:
    """Find hosts in the URLs of a service that share no network with it or do not exist."""

    def check(service: Compose) -> list[str]:
        urls = [
            value for name, value in service.get("environment", {}).items() if name.endswith("_URL")
        ]
        hosts = [urlsplit(VARIABLE.sub("x", url)).hostname for url in urls]
        networks = set(service["networks"])
        return [
            str(host)
            for host in hosts
            if not networks & set(file["services"].get(host, {}).get("networks", []))
        ]

    return of_services(file, check)


def variables_not_in_the_example(file: Compose) -> list[str]:
    return sorted({name for name, _, _ in variables(file)} ^ set(example_variables()))


BREAKING: list[tuple[Callable[[Compose], list[str]], Callable[[Compose], object]]] = [
    (dependencies_that_are_not_there, lambda c: c["services"]["api"]["depends_on"].update(mysq={})),
    (dependencies_that_cannot_hold, lambda c: c["services"]["minio"].pop("healthcheck")),
    (dependencies_that_cannot_hold, lambda c: c["services"]["migrate"].update(restart="always")),
    (volumes_undeclared_or_unused, lambda c: c["volumes"].pop("mysql-data")),
    (volumes_undeclared_or_unused, lambda c: c["volumes"].update(mysql={})),
    (images_not_pinned, lambda c: c["services"]["mysql"].update(image="mysql:8.4.11")),
    (
        images_not_pinned,
        lambda c: c["services"]["mysql"].update(
            image=c["services"]["mysql"]["image"].replace(":8.4.11", "")
        ),
    ),
    (our_image_built_other_than_once, lambda c: c["services"]["api"].update(build=".")),
    (
        secrets_not_from_outside,
        lambda c: c["services"]["mysql"]["environment"].update(
            {"MYSQL_PASSWORD": "${MYSQL_PASSWORD:-x}"}
        ),
    ),
    (
        secrets_not_from_outside,
        lambda c: c["services"]["minio"]["environment"].update(
            {"MINIO_ROOT_PASSWORD": "minioadmin"}
        ),
    ),
    (
        secrets_not_from_outside,
        lambda c: c["services"]["api"]["environment"].update(
            LOOKALIKE_DATABASE_URL="mysql://u:p@mysql/l"
        ),
    ),
    (secrets_not_from_outside, lambda c: c["services"]["api"].update(command=["${API_KEY:-x}"])),
    (long_running_without_health_check, lambda c: c["services"]["worker"].pop("healthcheck")),
    (
        long_running_without_health_check,
        lambda c: c["services"]["milvus"].update(healthcheck={"disable": True}),
    ),
    (open_to_others, lambda c: c["services"]["api"].update(ports=["8000:8000"])),
    (open_to_others, lambda c: c["services"]["mysql"].update(ports=["${A:-127.0.0.1:3306}:3306"])),
    (open_to_others, lambda c: c["services"]["mysql"].update(networks=["default", "stores"])),
    (open_to_others, lambda c: c["services"]["worker"].update(container_name="worker")),
    (open_to_others, lambda c: c["networks"].update(stores={})),
    (
        settings_that_are_not_there,
        lambda c: c["services"]["api"]["environment"].update(LOOKALIKE_HOTS=""),
    ),
    (
        hosts_out_of_reach,
        lambda c: c["services"]["worker"]["environment"].update(
            LOOKALIKE_VECTORS_URL="http://milvos:19530"
        ),
    ),
    (hosts_out_of_reach, lambda c: c["services"]["milvus"].update(networks=["default"])),
    (variables_not_in_the_example, lambda c: c["services"]["api"].update(user="${USER_ID:-1}")),
]


@pytest.mark.parametrize("check", dict.fromkeys(check for check, _ in BREAKING))
def test_the_compose_file_is_sound(check: Callable[[Compose], list[str]]) -> None:
    assert check(compose()) == []


@pytest.mark.parametrize(("check", "breaking"), BREAKING)
def test_every_check_finds_its_fault(
    check: Callable[[Compose], list[str]], breaking: Callable[[Compose], object]
) -> None:
    file = compose()
    breaking(file)
    assert check(file)


def test_make_env_writes_a_complete_file_that_only_its_owner_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Makefile", ".env.example"):
        copy_file(ROOT / name, tmp_path)
    subprocess.run(["make", "env"], cwd=tmp_path, check=True, capture_output=True)
    written = tmp_path / ".env"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    values = example_variables(written.read_text())
    secrets = [
        value for name, value in values.items() if re.fullmatch(r"API_KEY|\w+_PASSWORD", name)
    ]
    assert len(secrets) == len(set(secrets)) == 5
    assert all(re.fullmatch("[0-9a-f]{48}", secret) for secret in secrets)
    interpolated(compose(), values)  # no required variable is missing
    with pytest.raises(KeyError):
        interpolated(compose(), example_variables())
    again = subprocess.run(["make", "env"], cwd=tmp_path, check=False, capture_output=True)
    assert again.returncode != 0
    assert example_variables(written.read_text()) == values
    monkeypatch.chdir(tmp_path)
    for name in [name for name in values if name.startswith("LOOKALIKE_")]:
        pytest.fail(f"{name} in .env would change `make serve`, too")
    assert Settings() == Settings(_env_file=None)


def test_the_default_image_is_the_last_stage_without_torch_or_root() -> None:
    stages = {stage.name: stage for stage in dockerfile()}
    default = dockerfile()[-1]
    assert default.name == "cpu"
    for stage in (default, stages["gpu"]):
        assert int(stage.last("USER").split(":")[0]) > 0
        assert stage.healthcheck[0] == "python"
        assert (stage.argv("ENTRYPOINT"), stage.argv("CMD")) == (["lookalike"], ["serve"])
        assert {name for name in stage.environment if name.startswith("LOOKALIKE_")} <= {
            f"LOOKALIKE_{name.upper()}" for name in Settings.model_fields
        }
    builder = stages[str(re.search(r"--from=(\S+)", default.last("COPY"))[1])]  # type: ignore[index]
    assert "torch" not in " ".join(builder.all("RUN"))
    assert "torch" not in default.environment.values()
    assert "[torch]" in stages["gpu-builder"].last("RUN")
    bases = {base for stage in stages.values() for base in stage.all("FROM")} - set(stages)
    assert all(PINNED.fullmatch(base) for base in bases)


def test_a_stage_inherits_from_the_stage_it_is_built_on() -> None:
    first, last = dockerfile(
        "FROM a AS one\nUSER 1\nENV A=1 \\\n    B=2\n# no\nFROM one AS two\nUSER root\n"
    )
    assert (first.last("USER"), last.last("USER")) == ("1", "root")
    assert last.environment == {"A": "1", "B": "2"}


def test_the_build_context_is_what_the_dockerfile_copies() -> None:
    sent = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        word
        for stage in dockerfile()
        for text in stage.all("COPY")
        if not text.startswith("--from")
        for word in text.split()[:-1]
    }
    assert sent == copied
    assert all((ROOT / name).exists() for name in copied)
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()


@pytest.mark.parametrize("file", ["constraints.txt", "requirements.lock"])
def test_every_requirement_is_pinned(file: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    required = {
        re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")
        for requirements in (project["dependencies"], *extras)
        for requirement in requirements
    }
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / file).read_text(), re.MULTILINE))
    # requirements.lock has no hashes for torch, whose CPU and GPU builds differ.
    unpinned = {"torch", "torchvision"} if file == "requirements.lock" else set()
    assert required - pinned == {"lookalike"} | unpinned
