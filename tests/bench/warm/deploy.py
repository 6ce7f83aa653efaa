"""What the role `baseline` does, as a deploy of pyinfra: the same end state, task by task."""

from io import StringIO
from pathlib import Path

from pyinfra import host
from pyinfra.facts.files import FileContents, Sha256File
from pyinfra.facts.server import Command
from pyinfra.operations import apt, crontab, files, server, systemd

ROLE = Path(__file__).parent / "roles/baseline"
MARKER = "# {mark} ANSIBLE MANAGED BLOCK"  # blockinfile's: the role finds its own text
JINJA = {"trim_blocks": True}  # as Ansible renders
SSHD = {
    "PermitRootLogin": "prohibit-password",
    "X11Forwarding": "no",
    "MaxAuthTries": "4",
}


def packages_and_users() -> None:
    """Packages, the group and both users."""
    apt.packages(packages=["acl", "rsync"])
    apt.packages(packages=["libjemalloc2"])
    server.group(group="ops", gid=2001)
    server.user(user="svc", uid=2002, group="ops", shell="/usr/sbin/nologin", create_home=True)
    server.user(user="audit", uid=2003, groups=["ops"], append=True, create_home=True)


def directories() -> None:
    """Three directories and a link."""
    files.directory("/etc/baseline", user="root", group="ops", mode="750")
    files.directory("/var/lib/baseline", user="svc", group="ops", mode="700")
    files.directory("/opt/baseline/bin", user="root", group="root", mode="755")
    files.link("/opt/baseline/conf", target="/etc/baseline")


def whole_files() -> None:
    """Files that are ours from the first to the last line."""
    root = {"user": "root", "group": "root"}
    ops = {"user": "root", "group": "ops", "mode": "640"}
    files.put(StringIO(f"managed host {host.name}\n"), "/etc/motd", **root, mode="644")
    files.put(str(ROLE / "files/job.sh"), "/opt/baseline/bin/job.sh", **root, mode="755")
    files.put(StringIO("minlen=12\nretry=3\n"), "/etc/baseline/pwquality.conf", **ops)
    template("app.conf", "/etc/baseline/app.conf", **ops)
    template("audit.rules", "/etc/baseline/audit.rules", **root, mode="600")
    template("limits.conf", "/etc/security/limits.d/90-baseline.conf", **root, mode="644")


def template(name: str, dest: str, **rights: str) -> None:
    """One of the role's own templates."""
    source = str(ROLE / f"templates/{name}.j2")
    files.template(source, dest, **rights, jinja_env_kwargs=JINJA, inventory_hostname=host.name)


def lines() -> None:
    """Lines and blocks in files that are not ours; sshd reads its own again."""
    changes = [
        files.line("/etc/ssh/sshd_config", line=f"^#?{key}.*", replace=f"{key} {value}", extended_regex=True)
        for key, value in SSHD.items()
    ]
    systemd.service("ssh", reloaded=True, _if=lambda: any(change.did_change() for change in changes))
    files.line("/etc/login.defs", line="^UMASK.*", replace="UMASK\t\t027")
    names = "192.0.2.11 repo.example.test\n192.0.2.12 log.example.test"
    files.block("/etc/hosts", content=names, marker=MARKER)
    files.file("/etc/profile.d/baseline.sh", user="root", group="root", mode="644")  # a block alone would make it 0600
    files.block("/etc/profile.d/baseline.sh", content="TMOUT=900\nexport TMOUT", marker=MARKER)
    for key in ("net.ipv4.conf.all.rp_filter", "net.ipv4.tcp_syncookies"):
        files.line("/etc/sysctl.d/90-baseline.conf", line=f"^{key}=.*", replace=f"{key}=1")


def services() -> None:
    """The unit, two services and two jobs. Without a name for the job pyinfra finds the line that cron wrote."""
    template("baseline.service", "/etc/systemd/system/baseline.service", user="root", group="root", mode="644")
    systemd.service("baseline.service", running=True, enabled=True)
    systemd.service("cron", running=True, enabled=True)
    crontab.crontab(command="/opt/baseline/bin/job.sh clean", minute=7, hour=3)
    crontab.crontab(command="/opt/baseline/bin/job.sh report", user="svc", minute=17, hour=4)


def questions() -> None:
    """What the role's last five tasks ask. On a first run there is nothing yet: pyinfra asks before it acts."""
    digest = host.get_fact(Sha256File, path="/etc/baseline/app.conf")
    contents = host.get_fact(FileContents, path="/etc/baseline/app.conf")
    user = host.get_fact(Command, "getent passwd svc | cut -d: -f3 || true")
    assert host.get_fact(Command, "uname -r")
    if digest:
        assert user == "2002"
        assert any("listen = " in line for line in contents)


packages_and_users()
directories()
whole_files()
lines()
services()
questions()
