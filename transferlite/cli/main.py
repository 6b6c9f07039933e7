"""Entry point of the command line. A command's module is imported only when that command runs or shows its help."""

import codecs
import errno
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence

import click

from transferlite import __version__, environment
from transferlite.errors import MissingExtraError, TransferLiteError

# name -> (module, line in --help)
COMMANDS = {
    "train": ("train_job.cli.train", "Train on labelled photos, verify the model, publish and promote it."),
    "publish": ("train_job.cli.publish", "Publish a network with its own ImageNet classifier, without training."),
    "check": ("train_job.cli.check", "Find problems in labelled photos before training."),
    "plan": ("train_job.cli.plan", "Count the photos and labels that are new since the last training."),
    "predict": (
        "transferlite.cli.predict",
        "Predict the labels of photos with a published model (no TensorFlow needed).",
    ),
    "explain": ("transferlite.cli.explain", "Show which parts of a photo support its label (no TensorFlow needed)."),
    "models": ("transferlite.cli.models", "List, show, sign, promote, roll back, pull and share published models."),
    "edge": (
        "transferlite.cli.edge",
        "Keep the model on an edge device up to date; measure its speed (no TensorFlow needed).",
    ),
    "keys": ("transferlite.cli.keys", "Create and show the keys that sign models."),
    "serve": ("inference_lambda.serve", "Serve the HTTP API and page of the Lambda function on this machine."),
    "similar": ("train_job.cli.similar", "List the photos that look most like a photo."),
    "report": ("transferlite.cli.report", "Fetch a version's training report and open it."),
    "features": ("train_job.cli.features", "Show, compact and prune the feature store."),
    "drift": ("transferlite.cli.drift", "Compare recent predictions with those on the validation photos."),
    "export": ("export.cli", "Check which runtimes load a .tflite file; make a web page of a model."),
    "inspect": ("train_job.cli.inspect", "Show the layers of a backbone."),
    "cloud": ("transferlite.cli.cloud", "Deploy the stack to AWS; run, watch and schedule trainings there."),
    "package": ("transferlite.cli.package", "Build a folder for a device, or the Lambda function as a zip."),
    "demo": ("transferlite.cli.demo", "Run the whole loop on a local S3 with sample photos."),
}


_MAY_BE_EMPTY = frozenset({"--split-col"})
"""Options with a meaning for an empty value."""


class LazyGroup(click.Group):
    """Command group that imports a command's module only when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands in the order of :data:`COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module and return the command; None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command list of ``--help`` without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="transferlite")
def transferlite() -> None:
    """Train an image classifier on labelled photos, and predict with it on AWS Lambda or edge devices.

    Every LOCATION is an s3:// URI or a local path. S3 endpoint, region and credentials come from the standard AWS_*
    environment variables and configuration. Every command takes --debug, which prints full tracebacks.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return the exit status: 0, 1 for failures, 2 for errors in the command or the data."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_ERROR_HANDLER)
    debug = "--debug" in arguments or bool(os.environ.get(environment.DEBUG))
    words = [word for word in arguments if word != "--debug"]
    try:
        _refuse_empty(words)
        status = transferlite.main(words, prog_name="transferlite", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _failed("interrupted", 130, debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes stdout at exit
        return 1
    except TransferLiteError as error:
        return _failed(str(error), error.exit_code, debug)
    except ModuleNotFoundError as error:
        return _failed(str(MissingExtraError(str(error.name), "train")), 2, debug)
    except OSError as error:
        is_user_error = error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
        where = "" if error.filename is None else f"{error.filename}: "
        return _failed(f"{where}{error.strerror}", 2 if is_user_error else 1, debug)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        return _failed(
            f"{type(error).__name__}: {text} (run with --debug for a traceback, and please report it)", 1, debug
        )
    return status if isinstance(status, int) else 0


def _encode_any(error: UnicodeError) -> tuple[bytes, int]:
    """Encode what standard output cannot: a file name's bytes that are not UTF-8 as they are, the rest escaped."""
    assert isinstance(error, UnicodeEncodeError)
    part = error.object[error.start : error.end]
    return part.encode("ascii", "surrogateescape" if _is_escaped_bytes(part) else "backslashreplace"), error.end


def _is_escaped_bytes(text: str) -> bool:
    return all("\udc80" <= character <= "\udcff" for character in text)


_ERROR_HANDLER = "transferlite"
codecs.register_error(_ERROR_HANDLER, _encode_any)


def _refuse_empty(words: Sequence[str]) -> None:
    """Raise UsageError for an empty argument: an unset variable, which as a path would be the current folder."""
    for previous, word in zip(("", *words), words, strict=False):
        name, equals, value = word.partition("=") if word.startswith("--") else (previous, "=", word)
        if equals and not value.strip() and name not in _MAY_BE_EMPTY:
            raise click.UsageError(f"Empty argument after {name or 'transferlite'}: is a variable unset?")


def _failed(message: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    click.echo(f"error: {message}", err=True)
    return status


def _run_train() -> int:
    """Run ``transferlite train`` without options: in SageMaker the job there, elsewhere the usual command."""
    sagemaker = importlib.import_module("train_job.pipeline.sagemaker")
    return sagemaker.run_job(run) if sagemaker.is_here() else run(["train"])


def main() -> None:
    """Run the console script ``transferlite``."""
    sys.exit(_run_train() if sys.argv[1:] == ["train"] else run(sys.argv[1:]))
