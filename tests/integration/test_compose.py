"""docker/compose.yaml: valid, closed to other machines, and its services work together, here as processes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from services import free_port, postgres, wait
from support import LIMIT_S, ROOT, contents, run_cli

from geoseg.procedural import Frontier

yaml = pytest.importorskip("yaml")
COMPOSE = ROOT / "docker" / "compose.yaml"
DOCKERFILE = ROOT / "docker" / "Dockerfile"


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return document


def test_it_keeps_to_its_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout


def test_every_service_is_watched_started_again_and_closed_to_others() -> None:
    for name, service in compose()["services"].items():
        assert service["restart"] in ("unless-stopped", "on-failure"), name
        assert "test" in service["healthcheck"] or name == "deploy"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


SECRET = re.compile(r"PASSWORD|AUTH|TOKEN|SECRET|KEY")


def test_secrets_come_from_the_environment_and_nothing_starts_without() -> None:
    """``${NAME:?sentence}`` has compose end with the sentence where the variable is not set, or empty."""
    document = COMPOSE.read_text()
    services = compose()["services"]
    needed = {name for service in services.values() for name in service.get("environment", {}) if SECRET.search(name)}
    assert needed == {"POSTGRES_PASSWORD", "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"}
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if SECRET.search(name):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), name
    for name in re.findall(r"\$\{(\w*(?:PASSWORD|AUTH)\w*)", document):
        assert f"${{{name}}}" not in document
        assert f"\n{name}=\n" in (ROOT / "docker" / ".env.example").read_text(), "the example names it and gives no value"
    assert "docker/.env" in (ROOT / ".gitignore").read_text()
    # Whoever computes needs no password.
    for name in ("scheduler", "dask-worker"):
        assert not any(SECRET.search(key) for key in services[name].get("environment", {}))


def test_the_server_is_the_guarded_one_and_workers_are_bound() -> None:
    from flows.server import settings
    from geoseg.errors import ConfigError

    services = compose()["services"]
    assert services["server"]["entrypoint"][:3] == ["python", "-m", "flows.server"]
    host = services["server"]["entrypoint"][services["server"]["entrypoint"].index("--host") + 1]
    given = {"GEOSEG_SERVER_HOSTS": "server:4200 "}
    with pytest.raises(ConfigError, match="other machines can reach"):
        settings(host, 4200, given)
    doors, _ = settings(host, 4200, given | {"PREFECT_SERVER_API_AUTH_STRING": "geoseg:a long password"})
    # Workers ask by the service's name; browsers and the health check on loopback.
    assert {"server:4200", "127.0.0.1:4200", "localhost:4200"} <= doors.hosts
    worker, deployed = services["worker"]["environment"], services["deploy"]["environment"]
    for kind, name in (
        ("SOURCES", "GEOSEG_SOURCE"),
        ("OUT", "GEOSEG_OUT"),
        ("MODELS", "GEOSEG_MODEL"),
        ("SCHEDULERS", "GEOSEG_SCHEDULER"),
    ):
        assert worker[f"GEOSEG_ALLOWED_{kind}"] == deployed[name]
    assert "GEOSEG_ALLOWED_WEBHOOKS" in worker
    parameters = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"][0]["parameters"]
    assert parameters["config"]["watch"]["webhook"] == "{{ $GEOSEG_WEBHOOK_NAME }}"


def test_pages_link_to_maps_that_the_server_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.pages.page_links import MAPS, MAPS_URL, PREFIX, file_address

    server, worker = compose()["services"]["server"], compose()["services"]["worker"]["environment"]
    usual = {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text) for name, text in worker.items()}
    for name in (MAPS, MAPS_URL):
        monkeypatch.setenv(name, usual[name])
    port = server["entrypoint"][server["entrypoint"].index("--port") + 1]
    out = Path(usual["GEOSEG_ALLOWED_OUT"])
    assert file_address(out / "a" / "report.html") == f"http://127.0.0.1:{port}{PREFIX}a/report.html"
    # What the server shows it can't change.
    assert server["environment"][MAPS] == worker[MAPS]
    assert server["volumes"] == [f"maps:{worker[MAPS]}:ro"]


def test_its_variables_are_those_that_the_code_reads() -> None:
    code = "".join(
        path.read_text() for folder in ("flows", "pipeline", "geoseg") for path in sorted((ROOT / folder).rglob("*.py"))
    )
    code += (ROOT / "prefect.yaml").read_text()
    given = {name for service in compose()["services"].values() for name in service.get("environment", {})}
    prefix = "GEOSEG_ALLOWED_"
    for name in sorted(one for one in given if one.startswith("GEOSEG_")):
        assert re.search(rf"\b{name}\b", code) or (name.startswith(prefix) and f'"{name[len(prefix) :]}"' in code), name
    # What one sets in docker/.env is handed on.
    example = set(re.findall(r"^#? ?(\w+)=", (ROOT / "docker" / ".env.example").read_text(), flags=re.MULTILINE))
    assert example <= set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))


def test_the_last_stages_hold_no_tools_and_run_as_a_user() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE.read_text(), flags=re.MULTILINE)[1:]
    names = [re.search(r"AS (\S+)", stage)[1] for stage in stages]  # type: ignore[index]
    assert {"cpu", "gpu"} <= set(names)
    runtime = stages[names.index("runtime")]
    assert "gcc" not in runtime
    assert "pip" not in runtime
    assert "USER geoseg" in runtime
    assert "HEALTHCHECK" in runtime
    for target in ("cpu", "gpu"):
        assert stages[names.index(target)].startswith("runtime ")
    for lock in re.findall(r"requirements/\S+\.lock", DOCKERFILE.read_text()):
        assert (ROOT / lock).is_file()
    assert "torch==" not in (ROOT / "requirements" / "cpu.lock").read_text()


class Site:
    """The services of the compose file as processes of this machine: same commands, environment and order."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder
        self.services = compose()["services"]
        ports = {port: str(free_port()) for port in ("4200", "8786", "8080")}
        self.secrets = {
            "POSTGRES_PASSWORD": "secret",
            "PREFECT_AUTH_STRING": "geoseg:a long password",
            "GEOSEG_CRON": "* * * * *",
        }
        self.places = {
            "postgres:5432": database,
            "server:4200": f"127.0.0.1:{ports['4200']}",
            "scheduler:8786": f"127.0.0.1:{ports['8786']}",
            "0.0.0.0": "127.0.0.1",
            **ports,
            "/data/": f"{folder}/data/",
            "/cache": str(folder / "cache"),
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def here(self, text: str, own: dict[str, str]) -> str:
        text = re.sub(r"\$\{(\w+)(?::[-?]([^}]*))?\}", lambda m: self.secrets.get(m[1], m[2] or ""), text)
        for there, place in {**self.places, **own}.items():
            text = text.replace(there, place)
        return text

    def start(self, name: str, number: int = 0) -> subprocess.Popen[bytes]:
        service, work = self.services[name], self.folder / f"{name}-{number}"
        work.mkdir()
        shutil.copy(ROOT / "prefect.yaml", work)
        own = {"9000": str(free_port())}
        given = {key: self.here(str(value), own) for key, value in service.get("environment", {}).items()}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "GEOSEG"))}
        env = (
            inherited
            | {
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PREFECT_HOME": str(work / ".prefect"),
                "DO_NOT_TRACK": "1",
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            }
            | given
        )
        command = [self.here(part, own) for part in service["entrypoint"]]
        with (self.folder / f"{name}-{number}.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=work, env=env, stdout=log, stderr=log, start_new_session=True)
        self.processes.append(process)
        if "test" in service["healthcheck"]:
            check = [self.here(part, own) for part in service["healthcheck"]["test"][1:]]
            said = lambda: (self.folder / f"{name}-{number}.log").read_text()[-2000:]  # noqa: E731

            def healthy() -> bool:
                assert process.poll() is None, said()
                return subprocess.run(check, env=env, capture_output=True, timeout=LIMIT_S, check=False).returncode == 0

            wait(healthy)
        return process

    def close(self) -> None:
        for process in reversed(self.processes):
            with suppress(psutil.NoSuchProcess):
                # Flows and nannied workers are in sessions of their own.
                for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
                    with suppress(psutil.NoSuchProcess):
                        one.kill()
            process.wait(LIMIT_S)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_services_map_a_dropped_file(tmp_path: Path) -> None:
    pytest.importorskip("prefect")
    for name in ("inbox", "maps"):
        (tmp_path / "data" / name).mkdir(parents=True)
    with ExitStack() as stack:
        site = Site(tmp_path, stack.enter_context(postgres()))
        stack.callback(site.close)
        started = {"postgres"}
        while waiting := [name for name in site.services if name not in started]:
            ready = [name for name in waiting if set(site.services[name].get("depends_on", ())) <= started]
            assert ready, waiting
            for name in ready:
                for number in range(site.services[name].get("deploy", {}).get("replicas", 1)):
                    process = site.start(name, number)
                    if name == "deploy":
                        assert process.wait(LIMIT_S) == 0, (tmp_path / "deploy-0.log").read_text()
                started.add(name)
        Frontier(900, 900).write(tmp_path / "data" / "inbox" / "a.tif")
        wait((tmp_path / "data" / "maps" / "a" / "run.json").exists)
        # The chunks were done by the cluster: its workers have the model in their cache.
        assert list((tmp_path / "cache" / "models").glob("*/card.json"))
    done = run_cli(["segment", tmp_path / "data" / "inbox" / "a.tif", "-m", "amazon-forest", "-o", tmp_path / "clean"])
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "data" / "maps" / "a") == contents(tmp_path / "clean" / "a")
