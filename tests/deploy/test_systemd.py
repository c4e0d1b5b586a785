"""systemd accepts the units without warnings. They are confined, and the programs run under these restrictions."""

from __future__ import annotations

import configparser
import ctypes
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command_lines import usage_error
from tests.parts import free_port, need

HOME = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = ["responder.service", "exporters.service"]
MOST_EXPOSED = 2.0  # of 10; a unit without restrictions has 9.6
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1


def verify(unit: Path) -> tuple[int, str]:
    """systemd only warns of unknown keys and exits 0: any output is a failure."""
    need("systemd-analyze")
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def here(name: str, tmp_path: Path, *more: str) -> Path:
    """The unit with an existing program."""
    unit = tmp_path / name
    text = re.sub(r"/opt/rollback-responder/bin/\w+", "/bin/true", (HOME / name).read_text())
    unit.write_text(text.replace("[Install]", "\n".join([*more, "", "[Install]"])))
    return unit


@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_unit_without_warnings(name: str, tmp_path: Path) -> None:
    assert verify(here(name, tmp_path)) == (0, "")


def test_an_unknown_key_is_a_failure(tmp_path: Path) -> None:
    assert "ProtectSytem" in verify(here(UNITS[0], tmp_path, "ProtectSytem=strict"))[1]


@pytest.mark.parametrize("name", UNITS)
def test_the_service_is_confined(name: str) -> None:
    need("systemd-analyze")
    argv = ["systemd-analyze", "security", "--offline=true", str(HOME / name)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert exposure is not None, done.stderr
    assert float(exposure[1]) <= MOST_EXPOSED


@pytest.mark.parametrize(("name", "command"), [("responder.service", "responder"), ("exporters.service", "exporters")])
def test_it_starts_an_existing_command(name: str, command: str) -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(HOME / name)
    program, *words = unit["Service"]["ExecStart"].split()
    assert Path(program).name == command
    assert usage_error(command, words) == ""
    assert unit["Service"]["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert unit["Service"]["Restart"] == "on-failure"


def _no_new_code() -> None:
    """As MemoryDenyWriteExecute=yes: writable memory cannot become executable."""
    ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0)


def test_the_exporters_run_with_memory_deny_write_execute(tmp_path: Path) -> None:
    _starts_confined(tmp_path, "exporters", f"listen: 127.0.0.1:{free_port()}\n")


def test_the_responder_runs_with_memory_deny_write_execute(tmp_path: Path) -> None:
    text = f'state: sqlite://{tmp_path}/s.db\nprometheus: {{url: "http://127.0.0.1:1"}}\n'
    text += f'alertmanager: {{urls: ["http://127.0.0.1:1"]}}\nweb: {{listen: "127.0.0.1:{free_port()}"}}\n'
    _starts_confined(tmp_path, "responder", text)


def _starts_confined(tmp_path: Path, command: str, text: str) -> None:
    probe = subprocess.run(
        [sys.executable, "-c", f"import ctypes; print(ctypes.CDLL(None).prctl({PR_SET_MDWE}, 1, 0, 0, 0))"],
        capture_output=True,
        text=True,
        check=True,
    )
    if probe.stdout.strip() != "0":
        pytest.skip("this kernel is older than 6.3: it cannot forbid it to one process")
    config = tmp_path / "config.yml"
    config.write_text(text)
    log = tmp_path / "log"
    program = Path(sys.executable).with_name(command)
    with log.open("wb") as output:
        argv = [str(program), "serve", "--config", str(config)]
        process = subprocess.Popen(argv, stdout=output, stderr=output, preexec_fn=_no_new_code)
    try:
        end = time.monotonic() + 30
        while "listening" not in log.read_text():
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def test_units_are_enabled_after_their_files_are_checked() -> None:
    page = (HOME.parents[1] / "docs" / "operations.md").read_text()
    section = page.partition("### With systemd\n")[2].partition("\n#### ")[0]
    enabled = section.index("systemctl enable")
    for name in ("responder", "exporters"):
        file = f"/etc/responder/{name}.yml"
        assert section.index(f"`{file}`") < section.index(f"{name} check") < enabled
        assert f"AssertPathExists={file}\n" in (HOME / f"{name}.service").read_text()
