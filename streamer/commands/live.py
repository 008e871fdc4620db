"""``hpstm live``: a source, the server and sinks in one go, with one status line."""

from __future__ import annotations

from contextlib import ExitStack, closing

from streamer.commands.live_options import FROM, TO, SinkOptions, SourceOptions
from streamer.commands.serve import loaded_for_good
from streamer.commands.server_options import DEFAULTS, ServerOptions
from streamer.commands.signals import stop_signals
from streamer.errors import ConfigError


def live(*, source: SourceOptions = FROM, sinks: SinkOptions = TO, options: ServerOptions = DEFAULTS) -> int:
    """From a source through the filter to sinks, in one process; other programs send and subscribe as to any server."""
    source.check()
    sinks.check(source.vmc_in, options.curve)
    stop = stop_signals()
    with loaded_for_good():
        from streamer.commands.pipeline import Pipeline
        from streamer.commands.terminal import Screen, log_to
        from streamer.server.server import Server
    screen = Screen(2 if sinks.jsonl else 1)
    log_to(screen)
    with ExitStack() as stack:
        stack.callback(screen.end)
        server = Server(options.config(source.own_layouts))
        receivers, others, recorder = sinks.open(stack, screen.say)
        opened = stack.enter_context(closing(source.open(options.allow_remote, screen.say)))  # last: what comes is new
        pipeline = Pipeline(opened, server, receivers, others, screen, stop)
        try:
            code = pipeline.run()
        finally:
            for line in recorder.finish() if recorder is not None else ():
                screen.say(line)
        if pipeline.source_ended and source.camera is not None:
            raise ConfigError(f"{opened.name} gives no pictures any more")
        return code
