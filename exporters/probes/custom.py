"""Runs a configured command, never a shell, and leaves no process of its group behind."""

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

from exporters.check import Check
from exporters.connections import Connections
from exporters.errors import Failed, Unable
from exporters.json_path import JsonPath, pick
from exporters.notes import Notes

LONGEST_OUTPUT = 65536
BUFFERED = 0.1  # seconds: what a command that has ended wrote is in the pipe already
REAPING = 0.2  # seconds, less than the half second kept back from the scrape
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Custom(Check):
    """A command whose exit code 0 is success, and from whose output one number may be read and held to bounds.

    `value: number` reads all of stdout as a number, `json` the value at `json_path`, `prometheus` the one sample
    that `sample` selects, such as `queue_depth{queue="mail"}`.
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
            raise ValueError("must be a list, one item per argument: no shell reads it")
        return command

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.value == "json") != (self.json_path is not None):
            raise ValueError("json_path goes with value: json, and value: json needs it")
        if (self.value == "prometheus") != (self.sample is not None):
            raise ValueError("sample goes with value: prometheus, and value: prometheus needs it")
        if self.sample is not None:
            _selector(self.sample)
        if self.value is None and (self.at_least is not None or self.at_most is not None):
            raise ValueError("at_least and at_most need a value to be read from the output")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("at_least is above at_most: nothing could pass")
        if not Path(self.cwd).is_dir():
            raise ValueError(f"cwd {self.cwd} is not a directory")
        if self._executable is None:
            raise ValueError(f"there is no command {self.command[0]!r} that can be run")
        return self

    @property
    def _executable(self) -> str | None:
        found = shutil.which(self.command[0], path=self._environment.get("PATH"))
        return str(Path(found).absolute()) if found else None

    @property
    def _environment(self) -> dict[str, str]:
        # Ours holds the secrets of other checks.
        given = {name: secret.get_secret_value() for name, secret in self.env.items()}
        return {"PATH": SEARCH_PATH, "LANG": "C.UTF-8", **given}

    @property
    def shown_target(self) -> str:
        """The program without its arguments, which may hold secrets."""
        return self.command[0]

    async def probe(self, out: Notes, reach: Connections) -> None:
        """As Check.probe."""
        async with self._running() as (process, stdout, stderr):
            output, complaint = bytearray(), bytearray()
            reading = asyncio.gather(_read_into(output, stdout), _read_into(complaint, stderr))
            ending = asyncio.ensure_future(process.wait())
            try:
                first: list[asyncio.Future[Any]] = [reading, ending]
                await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    reading.result()  # raises for a flood while the command still runs
                code = await ending
                # What it left running would hold its output open for ever.
                _kill(process)
                with suppress(TimeoutError):  # what left the group may hold the output open for as long as it likes
                    await asyncio.wait_for(asyncio.shield(reading), BUFFERED)
            finally:
                reading.cancel()
                ending.cancel()
                await asyncio.gather(reading, ending, return_exceptions=True)
        out.gauge("probe_custom_exit_code", "Exit code of the command; negative is the signal that ended it.", code)
        out.say(f"exit code {code}, {len(output)} bytes of output")
        if complaint:
            out.say(f"stderr: {bytes(complaint[:1024]).decode(errors='replace')}")
        if code != 0:
            raise Failed(f"the command ended with exit code {code}", reason="exit")
        if self.value is not None:
            self._judge(self._read(bytes(output).decode(errors="replace")), out)

    def _judge(self, value: float, out: Notes) -> None:
        out.gauge("probe_custom_value", "The number that the command gave.", value)
        out.say(f"the value is {value:g}")
        # Written so that NaN, which is neither above nor below anything, fails both.
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
                    return _sampled(output, self.sample or "")
                case _:
                    return float(output)
        except (ValueError, LookupError, RecursionError, OverflowError) as error:
            why = error.args[0] if isinstance(error, LookupError) and error.args else error
            raise Failed(f"the output cannot be read: {why}", reason="output") from error

    @asynccontextmanager
    async def _running(
        self,
    ) -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.StreamReader, asyncio.StreamReader]]:
        # Pipes of our own: asyncio's stay open, and Process.wait() waits, while any escaped grandchild holds them.
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
                # A process in the middle of I/O dies when that is over, which may be never: the sample cannot wait.
                with suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), REAPING)


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
    # The session leader's pid is the group's id, and the kernel keeps it taken while any member lives.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _selector(text: str) -> tuple[str, dict[str, str]]:
    try:
        samples = [sample for family in text_string_to_metric_families(f"{text} 0\n") for sample in family.samples]
    except ValueError as error:
        raise ValueError(f'sample {text!r} is not a series such as queue_depth{{queue="mail"}}') from error
    if len(samples) != 1:
        raise ValueError(f'sample {text!r} is not a series such as queue_depth{{queue="mail"}}')
    return samples[0].name, samples[0].labels


def _sampled(output: str, wanted: str) -> float:
    name, labels = _selector(wanted)
    found = [
        sample.value
        for family in text_string_to_metric_families(output)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    if len(found) != 1:
        raise ValueError(f"{len(found)} samples match {wanted}, not one")
    return math.nan if found[0] is None else float(found[0])
