"""Slots as containers under compose: an image by digest, never by tag; read-only, without capabilities, limited."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcpops.hostside.drivers import (
    Place,
    Release,
    argv_of,
    command,
    delete_tree,
    failed_command,
    key_of,
    require_free_port,
)
from mcpops.hostside.state import EXIT_USAGE, HostError, write_atomic, write_error

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

PULL_TIMEOUT_S = 300.0
DOCKER_TIMEOUT_S = 30.0
INNER_PORT = 8000
USER = "10001:10001"  # no account of the image or the host: high, fixed, without a name
LABEL = "mcpops.release"


@dataclass(frozen=True)
class ContainerDriver:
    """Docker with the compose plugin, as service.json gives it."""

    docker: str

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> ContainerDriver:
        """Return the driver for the `container` object of service.json."""
        return cls(docker=facts["docker"])

    def install(self, place: Place, release: Release, contents: Mapping[str, str]) -> None:
        """Have the image by digest, prove that digest, and write the slot's compose file."""
        del contents  # everything is in the image
        artifact = release["artifact"]
        if artifact["kind"] != "image":
            raise HostError(
                "wrong_kind",
                f"{release['name']} is a lock file; this host runs its slots as containers",
                hint="deploy a release of kind `image`, or set the process driver and run setup",
                exit_code=EXIT_USAGE,
            )
        image = artifact["image"]
        if not self._has(image):
            result = self._docker("pull", "--quiet", image, timeout_s=PULL_TIMEOUT_S)
            if result.returncode != 0:
                hint = "is this the digest that was pushed, and is this host logged in to the registry?"
                raise failed_command("wrong_digest", f"the image {image} cannot be had", result, hint)
            if not self._has(image):
                raise HostError("wrong_digest", f"docker pulled something else than {image}")
        home = place.home(release)
        try:
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise write_error(home, error) from error
        text = json.dumps(compose(place, release), indent=1, sort_keys=True)  # JSON is YAML
        write_atomic(home / "compose.yaml", text.encode())

    def _has(self, image: str) -> bool:
        """Tell whether an image with exactly this repository digest is here."""
        result = self._docker("image", "inspect", "--format", "{{json .RepoDigests}}", image)
        return result.returncode == 0 and image in (json.loads(result.stdout) or [])

    def start(self, place: Place, release: Release) -> None:
        """Bring the slot's project up from the release's compose file."""
        if self.running(place) == key_of(release):
            return
        self.stop(place, float(release["stop_timeout_s"]))
        require_free_port(place)
        path = str(place.home(release) / "compose.yaml")
        # No pull here: what runs is what `install` proved.
        words = [
            "compose",
            "-p",
            place.name,
            "-f",
            path,
            "up",
            "-d",
            "--no-build",
            "--pull",
            "never",
            "--remove-orphans",
        ]
        result = self._docker(*words, timeout_s=PULL_TIMEOUT_S)
        if result.returncode != 0:
            raise failed_command("not_started", f"{release['name']} cannot be started in slot {place.slot}", result)

    def stop(self, place: Place, timeout_s: float) -> bool:
        """Stop and delete the slot's container; the image and the compose file stay for the next start."""
        names = self._containers(place)
        if not names:
            return False
        ran = self.running(place) is not None
        seconds = str(max(1, round(timeout_s)))
        words = ["compose", "-p", place.name, "down", "--remove-orphans", "--timeout", seconds]
        result = self._docker(*words, timeout_s=timeout_s + DOCKER_TIMEOUT_S)
        if result.returncode != 0:
            raise failed_command("not_stopped", f"{place.name} cannot be stopped", result)
        return ran

    def discard(self, place: Place, release: Release) -> None:
        """Delete the release's compose file. Images are left to the host's own clean-up: both slots may share one."""
        delete_tree(place.home(release))

    def running(self, place: Place) -> str | None:
        """Return the label of the container that runs."""
        words = ["--filter", "status=running", "--format", f'{{{{.Label "{LABEL}"}}}}']
        lines = self._ps(place, *words)
        return lines[0] if lines else None

    def logs(self, place: Place, release: Release, lines: int) -> str:
        """Return the end of the release's output."""
        del release
        result = self._docker("compose", "-p", place.name, "logs", "--no-log-prefix", "--tail", str(lines))
        return (result.stdout + result.stderr).strip()

    def _containers(self, place: Place) -> list[str]:
        """Return the ids of the slot's containers, running or not."""
        return self._ps(place, "--all", "--quiet")

    def _ps(self, place: Place, *words: str) -> list[str]:
        """Return the lines of `docker ps` for the slot's project; raises HostError when docker does not answer."""
        project = f"label=com.docker.compose.project={place.name}"
        result = self._docker("ps", "--filter", project, *words)
        if result.returncode != 0:
            raise failed_command("docker_down", "docker does not answer", result, "systemctl status docker")
        return result.stdout.split()

    def _docker(self, *words: str, timeout_s: float = DOCKER_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run docker with the caller's home (its registry logins) and nothing else of the environment."""
        names = ("HOME", "PATH", "DOCKER_CONFIG", "DOCKER_HOST", "XDG_RUNTIME_DIR")
        env = {name: os.environ[name] for name in names if name in os.environ}
        return command([self.docker, *words], timeout_s, env)


def compose(place: Place, release: Release) -> dict[str, Any]:
    """Return the compose file of a release in a slot."""
    limits = release["limits"]
    argv = argv_of(release, place, "0.0.0.0", INNER_PORT, "/release")  # noqa: S104 - inside the container
    service = {
        "image": release["artifact"]["image"],
        "entrypoint": [_plain(argv[0])],
        "command": [_plain(word) for word in argv[1:]],
        "environment": {name: _plain(value) for name, value in release["environment"].items()},
        "labels": {LABEL: key_of(release)},
        "ports": [f"{_bracketed(place.address)}:{place.port}:{INNER_PORT}"],
        "user": USER,
        "read_only": True,
        "tmpfs": ["/tmp:size=64m,mode=1777"],  # noqa: S108 - the container's own
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "init": True,  # an init answers SIGTERM and reaps: without it each stop costs 10 s
        "restart": "unless-stopped",
        "mem_limit": limits["memory"],
        "memswap_limit": limits["memory"],
        "cpus": limits["cpus"],
        "pids_limit": limits["pids"],
        "logging": {"driver": "json-file", "options": {"max-size": "5m", "max-file": "2"}},
    }
    return {"services": {"mcp": service}}


def _plain(text: str) -> str:
    """Return a text that compose does not expand."""
    return text.replace("$", "$$")


def _bracketed(address: str) -> str:
    """Return an address as compose wants it before a port."""
    return f"[{address}]" if ":" in address else address
