"""A resume never overrides a rollback, whatever the fronts need to answer; and bare hosts are no silent ones."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.stand import QUICK, Load, Project, new_project

SLOW_S = 4.0  # longer than a resume once waited for an answer, and shorter than it does now


@contextmanager
def hostside(project: Project, program: str) -> Iterator[None]:
    """Put another program before hostside for a while; it finds the real one in REAL."""
    path = project.state / "hostside.pyz"
    real = path.rename(path.with_name("real.pyz"))
    path.write_text(f"import runpy, sys, time\nREAL = {str(real)!r}\n{program}\n")
    try:
        yield
    finally:
        real.rename(path)


def test_a_silent_front_blocks_a_resume_until_it_answers(project: Project) -> None:
    before, wanted = project.serving(), project.other()
    with Load(project) as load:
        deploy = project.start("deploy", wanted, *QUICK)
        deploy.until("▸ prove")
        deploy.kill()
        with hostside(project, "time.sleep(60)"):
            blocked = project.run("runs", "resume", deploy.run_id)
        assert (blocked.code, blocked.out["error"]["name"]) == (3, "unknown"), blocked.error
        assert "no answer from local" in blocked.out["error"]["message"]
        assert f"mcpops runs abandon {deploy.run_id} --yes" in blocked.out["error"]["hint"]
        assert project.serving() == before
        ended = project.run("runs", "resume", deploy.run_id)
    assert (ended.code, load.failed) == (0, []), ended.error
    assert project.serving() == wanted


@pytest.mark.slow
def test_a_front_that_takes_its_time_is_heard_out(project: Project) -> None:
    before = project.serving()
    with Load(project) as load:
        deploy = project.start("deploy", project.other(), *QUICK)
        deploy.until("▸ prove")
        deploy.kill()
        rollback = project.run("rollback", "--to", str(before))
        assert rollback.code == 0, rollback.error
        # Without its record here (it was done from another control node) only the front knows.
        (project.home / f".mcpops/local/rollbacks/{rollback.out['id']}.json").unlink()
        slow = f"time.sleep({SLOW_S})\nsys.argv[0] = REAL\nrunpy.run_path(REAL, run_name='__main__')"
        with hostside(project, slow):
            resumed = project.run("runs", "resume", deploy.run_id)
    assert (resumed.code, resumed.out["error"]["name"]) == (9, "refused"), resumed.error
    assert rollback.out["id"] in resumed.out["error"]["detail"]
    assert (project.serving(), load.failed) == (before, [])
    assert project.run("runs", "abandon", deploy.run_id, "--yes").code == 0


@pytest.mark.slow
def test_an_interrupted_setup_of_bare_hosts_is_resumed() -> None:
    bare = new_project()
    try:
        setup = bare.start("run", "setup")
        setup.until("▸ setup")
        setup.kill()
        resumed = bare.run("runs", "resume", setup.run_id)
        assert "error" not in resumed.out, resumed.error
        assert resumed.out["steps"][0]["attempts"] >= 1
        assert resumed.out["state"] in ("done", "failed"), "it came to an end, as its step says"
        assert bare.run("status").out["lease"] is None
        again = bare.run("run", "setup")
        assert again.code == 0, again.error
    finally:
        bare.run("run", "teardown")
        shutil.rmtree(bare.home)
