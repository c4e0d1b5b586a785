"""The check type `custom`: runs a command without a shell, and kills its process group afterwards."""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from prometheus_client.parser import text_string_to_metric_families
from pydantic import Field, SecretStr, field_validator, model_validator

from exporters.clients.connections import Connections
from exporters.errors import Failed, Unable
from exporters.output import ProbeOutput
from exporters.probes.check import Check
from exporters.probes.json_path import JsonPath, pick

LONGEST_OUTPUT = 65536
DRAIN_TIMEOUT = 0.1  # seconds: the output of a command that has ended is already in the pipe
REAP_TIMEOUT = 0.2  # seconds: less than the margin that the runner keeps of the scrape timeout
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Custom(Check):
    """A command that must exit with 0, and optionally print a number within bounds.

    `value: number` reads stdout as a number. `json` reads the value at `json_path`. `prometheus` reads the one
    sample that `sample` selects, such as `queue_depth{queue="mail"}`.
    """

    type: Literal["custom"]
    command: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    env: dict[str, SecretStr] = Field(default_factory=dict)
    cwd: str = "/"
    value: Literal["number", "json", "prometheus"] | None = None
    json_path: JsonPath | None = None
    sample: str | None = None
    at_least: Annotated[float, Field(allow_inf_nan=False)] | None = None
    at_most: Annotated[float, Field(allow_inf_nan=False)] | None = None

    reasons: ClassVar[tuple[str, ...]] = ("exit", "output", "threshold")

    @field_validator("command", mode="before")
    @classmethod
    def _is_argv(cls, command: object) -> object:
        if isinstance(command, str):
            raise ValueError("must be a list with one item per argument: there is no shell; write it as [sh, -c, …]")
        return command

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.value == "json") != (self.json_path is not None):
            raise ValueError("json_path and value: json must be set together; add the missing one")
        if (self.value == "prometheus") != (self.sample is not None):
            raise ValueError("sample and value: prometheus must be set together; add the missing one")
        if self.sample is not None:
            _selector(self.sample)
        if self.value is None and (self.at_least is not None or self.at_most is not None):
            raise ValueError("at_least and at_most need value; add value: number, json or prometheus")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("at_least is above at_most, so the check could never succeed; exchange them")
        if not Path(self.cwd).is_dir():
            raise ValueError(f"cwd {self.cwd} is not a directory; create it, or correct the path")
        if self._executable is None:
            raise ValueError(f"command {self.command[0]!r} is not an executable file; install it, or correct the path")
        return self

    @property
    def _executable(self) -> str | None:
        found = shutil.which(self.command[0], path=self._environment.get("PATH"))
        return str(Path(found).absolute()) if found else None

    @property
    def _environment(self) -> dict[str, str]:
        # Not the exporter's environment, which holds the secrets of other checks.
        configured = {name: secret.get_secret_value() for name, secret in self.env.items()}
        return {"PATH": SEARCH_PATH, "LANG": "C.UTF-8", **configured}

    @property
    def shown_target(self) -> str:
        """The program. Its arguments may hold secrets."""
        return self.command[0]

    async def probe(self, out: ProbeOutput, connections: Connections) -> None:
        """See Check.probe."""
        async with self._running() as (process, stdout, stderr):
            output, errors = bytearray(), bytearray()
            reading = asyncio.gather(_read_into(output, stdout), _read_into(errors, stderr))
            ending = asyncio.ensure_future(process.wait())
            try:
                first: list[asyncio.Future[Any]] = [reading, ending]
                await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    reading.result()  # raises if there is too much output while the command still runs
                code = await ending
                _kill(process)  # a child in the background would keep the output open
                with suppress(TimeoutError):  # as would a process that has left the group
                    await asyncio.wait_for(asyncio.shield(reading), DRAIN_TIMEOUT)
            finally:
                reading.cancel()
                ending.cancel()
                await asyncio.gather(reading, ending, return_exceptions=True)
        out.gauge("probe_custom_exit_code", "Exit code of the command; negative for the signal that ended it.", code)
        out.log(f"exit code {code}, {len(output)} bytes of output")
        if errors:
            out.log(f"stderr: {bytes(errors[:1024]).decode(errors='replace')}")
        if code != 0:
            raise Failed(f"the command ended with exit code {code}", reason="exit")
        if self.value is not None:
            self._judge(self._read(bytes(output).decode(errors="replace")), out)

    def _judge(self, value: float, out: ProbeOutput) -> None:
        out.gauge("probe_custom_value", "The number that the command printed.", value)
        out.log(f"the value is {value:g}")
        # `not >=` instead of `<`: NaN must fail both.
        if self.at_least is not None and not value >= self.at_least:
            raise Failed(f"{value:g} is not at least {self.at_least:g}", reason="threshold")
        if self.at_most is not None and not value <= self.at_most:
            raise Failed(f"{value:g} is not at most {self.at_most:g}", reason="threshold")

    def _read(self, output: str) -> float:
        try:
            match self.value:
                case "json":
                    found = pick(json.loads(output), self.json_path or "")
                    if isinstance(found, bool) or not isinstance(found, int | float):
                        raise ValueError(f"{self.json_path} is not a number")
                    return float(found)
                case "prometheus":
                    return _sample_value(output, self.sample or "")
                case _:
                    return float(output)
        except (ValueError, LookupError, RecursionError, OverflowError) as error:
            why = error.args[0] if isinstance(error, LookupError) and error.args else error
            raise Failed(f"the output cannot be read: {why}", reason="output") from error

    @asynccontextmanager
    async def _running(
        self,
    ) -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.StreamReader, asyncio.StreamReader]]:
        # Own pipes: with those of asyncio, Process.wait() waits while any grandchild holds them open.
        pipes: list[asyncio.ReadTransport] = []
        process: asyncio.subprocess.Process | None = None
        try:
            stdout, to_stdout = await _pipe(pipes)
            try:
                stderr, to_stderr = await _pipe(pipes)
                try:
                    process = await asyncio.create_subprocess_exec(
                        self._executable or self.command[0],
                        *self.command[1:],
                        stdin=asyncio.subprocess.DEVNULL,
                        stdout=to_stdout,
                        stderr=to_stderr,
                        env=self._environment,
                        cwd=self.cwd,
                        start_new_session=True,
                    )
                finally:
                    os.close(to_stderr)
            finally:
                os.close(to_stdout)
            yield process, stdout, stderr
        except OSError as error:
            raise Unable(f"the command cannot be started: {error.strerror}") from error
        finally:
            for pipe in pipes:
                pipe.close()
            if process is not None:
                _kill(process)
                with suppress(TimeoutError):  # a process that is blocked in I/O may never end
                    await asyncio.wait_for(process.wait(), REAP_TIMEOUT)


async def _pipe(opened: list[asyncio.ReadTransport]) -> tuple[asyncio.StreamReader, int]:
    read_end, write_end = os.pipe()
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", 0)
    )
    opened.append(transport)
    return reader, write_end


async def _read_into(read: bytearray, stream: asyncio.StreamReader) -> None:
    while chunk := await stream.read(LONGEST_OUTPUT):
        read += chunk
        if len(read) > LONGEST_OUTPUT:
            raise Failed(f"the command printed more than {LONGEST_OUTPUT} bytes", reason="output")


def _kill(process: asyncio.subprocess.Process) -> None:
    # The PID of the session leader is the ID of the group. The kernel does not reuse it while a member lives.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _selector(text: str) -> tuple[str, dict[str, str]]:
    try:
        samples = [sample for family in text_string_to_metric_families(f"{text} 0\n") for sample in family.samples]
    except ValueError as error:
        raise ValueError(f'sample {text!r} is not a series; write it as queue_depth{{queue="mail"}}') from error
    if len(samples) != 1:
        raise ValueError(f'sample {text!r} is not a series; write it as queue_depth{{queue="mail"}}')
    return samples[0].name, samples[0].labels


def _sample_value(output: str, selector: str) -> float:
    name, labels = _selector(selector)
    found = [
        sample.value
        for family in text_string_to_metric_families(output)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    if len(found) != 1:
        raise ValueError(f"{len(found)} samples match {selector}, expected one")
    return math.nan if found[0] is None else float(found[0])
