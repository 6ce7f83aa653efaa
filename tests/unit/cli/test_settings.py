"""`mcpops.yml`: what it may say, and each mistake with its line."""

from __future__ import annotations

import pytest

from mcpops.cli import project, settings
from mcpops.cli.settings import LOUD, load_settings
from mcpops.core.errors import UsageError
from mcpops.model.schedule import Misfire

GOOD = """\
default_environment: lab
name: shop
journal: postgresql://ops@db/mcpops
journal_keys: [AAAA]
anchor: {s3: {bucket: anchors, prefix: shop, region: eu-central-1}}
metrics_file: /var/lib/node_exporter/mcpops.prom
notify:
  - name: pager
    webhook: {url: "https://example.com/hook", secret_file: pager.secret}
  - name: mail
    events: [done, failed]
    environments: [production]
    email: {to: [ops@example.com], from: mcpops@example.com, host: mail, user: ops, password_file: mail.pw}
  - name: script
    command: [/usr/local/bin/tell, --loud]
schedules:
  - {name: night, environment: lab, runbook: check, cron: "30 2 * * *", timezone: Europe/Berlin, misfire: once,
     jitter: 5m, max_age: 26h, ping: "https://hc.example.com/uuid", parameters: {level: 3}}
  - {name: night, environment: other, runbook: check, cron: "0 * * * MON-FRI", misfire: {within: 2h}}
"""


def load(tmp_path, text):
    (tmp_path / "mcpops.yml").write_text(text)
    return load_settings(tmp_path)


def test_all_that_it_may_say(tmp_path):
    found = load(tmp_path, GOOD)

    assert (found.name, found.journal, found.journal_keys) == ("shop", "postgresql://ops@db/mcpops", ("AAAA",))
    assert [hearer.way for hearer in found.notify] == ["webhook", "email", "command"]
    assert found.notify[0].events == LOUD
    assert not found.notify[0].wants("lab", "done")
    assert found.notify[0].wants("lab", "broken")
    assert found.notify[1].wants("production", "done")
    assert not found.notify[1].wants("lab", "done")
    night, other = found.schedules
    assert (night.misfire, night.jitter_s, night.max_age_s, night.parameters) == (
        Misfire.ONCE,
        300,
        93600,
        {"level": 3},
    )
    assert (other.misfire, other.within_s, other.timezone) == (Misfire.WITHIN, 7200, "UTC")


def test_a_project_without_it_has_its_directory_s_name(tmp_path):
    assert load_settings(tmp_path).name == tmp_path.name
    assert load_settings(tmp_path).schedules == ()


def change(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (change("cron: \"30 2 * * *\"", "cron: \"61 2 * * *\""), 17, "cron"),
        (change("Europe/Berlin", "Europe/Atlantis"), 17, "no time zone"),
        (change("misfire: once", "misfire: maybe"), 17, "schedules[0].misfire"),
        (change("jitter: 5m", "jitter: soon"), 18, "no duration"),
        (change("runbook: check, cron: \"30", "cron: \"30"), 17, "'runbook' is a required property"),
        (change("environment: other", "environment: lab"), 19, "stands here twice"),
        (change("https://example.com/hook", "ftp://example.com"), 9, "notify[0]"),
        (change("events: [done, failed]", "events: [sometimes]"), 11, "notify[1].events[0]"),
        (change("name: shop", "name: 'a shop'"), 2, "name"),
        (change("journal: postgresql", "journal: mysql"), 3, "journal"),
        (change("bucket: anchors, ", ""), 5, "anchor"),
        (change("    command: [/usr/local/bin/tell, --loud]\n", ""), 14, "notify[2]"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(tmp_path, text, line, said):
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)

    assert said in caught.value.message
    assert caught.value.where == f"{tmp_path}/mcpops.yml:{line}"
    assert caught.value.hint


def test_a_rollback_does_not_mind_a_mistake_in_a_schedule(tmp_path):
    (tmp_path / "inventories/lab").mkdir(parents=True)
    (tmp_path / "mcpops.yml").write_text(change("Europe/Berlin", "Europe/Atlantis"))

    assert project.find_environment(project.Session(project=tmp_path)).name == "lab"


def test_the_two_lists_of_keys_are_one():
    assert set(project.SETTINGS_KEYS) == set(settings.SCHEMA["properties"])
