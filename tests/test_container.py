"""Dockerfile and compose.yaml, held against the program: without Docker, so what an image's base brings is not tested.

The files that the Dockerfile copies are installed alone and run by its entry point, command and health check; the
settings that compose.yaml gives Kafka start a real broker; names, ports and addresses fit the examples.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from engine.runtime.config import default_config, load
from tests.patience import PATIENCE_SECONDS

CONTINUED = re.compile(r"\\\n")
EXAMPLES = ("hedging", "decisions", "strategies-spot")


@pytest.fixture(scope="module")
def dockerfile(repo_root: Path) -> list[tuple[str, str]]:
    """Its instructions and what they say, comments and line ends out."""
    text = (repo_root / "Dockerfile").read_text(encoding="utf-8")
    lines = CONTINUED.sub("", "".join(f"{x}\n" for x in text.splitlines() if not x.startswith("#"))).splitlines()
    return [(word, rest.strip()) for line in lines if line.strip() for word, _, rest in (line.partition(" "),)]


@pytest.fixture(scope="module")
def compose(repo_root: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((repo_root / "compose.yaml").read_text(encoding="utf-8")))


def said(dockerfile: list[tuple[str, str]], word: str) -> str:
    (found,) = [rest for name, rest in dockerfile if name == word]
    return found


# ------------------------------------------------------------------------------------------------------- the Dockerfile


@pytest.fixture(scope="module")
def image(
    dockerfile: list[tuple[str, str]], repo_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The entry point, and the environment in which it finds what was copied and installed, and nothing else of ours.

    What pip would fetch is this environment's own: it is the same list, from the same pyproject.toml.
    """
    context, prefix = tmp_path_factory.mktemp("src"), tmp_path_factory.mktemp("opt")
    for word, rest in dockerfile:
        if word == "COPY" and not rest.startswith("--from"):
            *names, target = rest.split()
            for name in names:
                place = context / (name if target == "./" else target)
                if (repo_root / name).is_dir():
                    shutil.copytree(repo_root / name, place, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(repo_root / name, place)
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-compile"]
    done = subprocess.run([*install, "--prefix", str(prefix), "."], cwd=context, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(context)
    (packages,) = prefix.glob("lib*/python*/site-packages")
    entry = json.loads(said(dockerfile, "ENTRYPOINT"))
    yield (
        [str(prefix / "bin" / entry[0]), *entry[1:]],
        {**os.environ, "PYTHONPATH": str(packages), "PYTHONUNBUFFERED": "1"},
    )


def test_what_the_dockerfile_copies_is_enough_to_run_its_command_and_pass_its_health_check(
    dockerfile: list[tuple[str, str]], image: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    entry, environment = image
    command = json.loads(said(dockerfile, "CMD"))
    assert command[-1].startswith("/data/") and said(dockerfile, "VOLUME") == "/data"  # what it keeps is in the volume
    assert said(dockerfile, "ARG") == "EXTRAS="
    command[-1] = str(tmp_path / "var")
    process = subprocess.Popen(
        [*entry, *command, "--port", "0", "--json"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        api = json.loads(process.stdout.readline())["api"]
        _, _, check = said(dockerfile, "HEALTHCHECK").partition("CMD ")
        usual = "http://127.0.0.1:8002"
        assert usual == f"http://{default_config().api.host}:{default_config().api.port}" and usual in check
        python, *words = json.loads(check.replace(usual, api))
        assert python == "python"
        checked = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        dead = subprocess.run([sys.executable, *json.loads(check.replace(usual, "http://127.0.0.1:1"))[1:]], stderr=-3)
        assert dead.returncode != 0
        process.send_signal(getattr(signal, said(dockerfile, "STOPSIGNAL")))
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.communicate()


def test_the_examples_are_in_the_image_and_a_command_of_ones_own_takes_them(
    image: tuple[list[str], dict[str, str]], compose: dict[str, Any], repo_root: Path, tmp_path: Path
) -> None:
    entry, environment = image
    (shipped,) = [Path(environment["PYTHONPATH"]) / "engine" / "examples"]
    assert {path.name for path in shipped.glob("*.toml")} >= {f"{name}.toml" for name in EXAMPLES}
    text = (repo_root / "compose.yaml").read_text(encoding="utf-8")
    own = json.loads(text.partition("# command: ")[2].splitlines()[0])
    assert own == ["run", "--config", "/data/surefire.toml"]
    config = tmp_path / "surefire.toml"
    shutil.copy(shipped / "strategies-paper.toml", config)
    checked = subprocess.run(
        [*entry, "check", "--config", str(config)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


# --------------------------------------------------------------------------------------------------------- compose.yaml


def test_only_loopback_is_reached_and_the_engine_may_write_its_volume_alone(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert service.get("profiles") == (None if name == "engine" else ["neighbours"])
        assert {volume.partition(":")[0] for volume in service.get("volumes", ())} <= set(compose["volumes"])
    engine = services["engine"]
    assert engine["build"]["context"] == "." and list(engine["build"]["args"]) == ["EXTRAS"]
    assert engine["read_only"] and engine["volumes"] == ["data:/data"] and engine["cap_drop"] == ["ALL"]
    assert engine["network_mode"] == "host"  # without tokens it listens on loopback, and refuses any other address


def test_the_neighbours_are_where_the_examples_look_for_them(compose: dict[str, Any], repo_root: Path) -> None:
    services = compose["services"]
    published = {f"127.0.0.1:{port.split(':')[1]}" for s in services.values() for port in s.get("ports", ())}
    wanted = set()
    passwords = set()
    for name in EXAMPLES:
        config = load(repo_root / "engine" / "examples" / f"{name}.toml")
        for edge in (*config.sources, *config.sinks):
            if edge.kind in ("kafka", "redis"):
                wanted.add(urlsplit(edge.server).netloc if "://" in edge.server else edge.server)
        if config.journal.url:
            at = urlsplit(config.journal.url)
            wanted.add(f"{at.hostname}:{at.port}")
            passwords.add(config.journal.password_env)
            environment = services["postgres"]["environment"]
            assert at.username == environment["POSTGRES_USER"]
            assert at.path == "/" + environment.get("POSTGRES_DB", environment["POSTGRES_USER"])  # as the image has it
    assert wanted == published
    assert passwords <= set(services["engine"]["environment"])
    (target,) = yaml.safe_load(compose["configs"]["prometheus"]["content"])["scrape_configs"][0]["static_configs"][0][
        "targets"
    ]
    assert target == f"{default_config().api.host}:{default_config().api.port}"
    mounted = services["prometheus"]["configs"][0]
    assert f"--config.file={mounted['target']}" in services["prometheus"]["command"]
    assert mounted["source"] in compose["configs"]


def test_a_real_broker_starts_with_the_settings_that_kafka_is_given(
    compose: dict[str, Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The image turns KAFKA_SOME_NAME into some.name (its documentation, "Overriding the default broker config")."""
    from bench.broker import VERSION, Broker, NoBroker, libraries, topic
    from bench.ports import free_port

    kafka = compose["services"]["kafka"]
    assert kafka["image"] == f"apache/kafka:{VERSION}", "what is tested is what is shipped"
    try:
        broker = Broker(tmp_path, libraries())
    except NoBroker as word:
        (pytest.fail if os.environ.get("SUREFIRE_NEED_SERVERS") else pytest.skip)(str(word))
    named = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value for name, value in kafka["environment"].items()
    }
    (folder,) = [volume.partition(":")[2] for volume in kafka["volumes"]]
    assert named["log.dirs"] == folder, "its data are in the volume"
    here = {"9092": str(broker.port), "9093": str(free_port()), folder: str(tmp_path / "data"), "://:": "://127.0.0.1:"}
    text = "".join(f"{name}={value}\n" for name, value in named.items())
    for there, mine in here.items():
        assert there in text
        text = text.replace(there, mine)
    (tmp_path / "broker.properties").write_text(text, encoding="utf-8")
    request.addfinalizer(lambda: broker.stop(signal.SIGKILL))
    broker.start()
    assert topic(broker.cluster)
