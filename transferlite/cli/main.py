"""The console script. Each command lives in its room and is imported only when it is used or its help is shown."""

import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import click

from transferlite import __version__, environment
from transferlite.errors import MissingExtraError, TransferLiteError

# name -> (module that holds it, the line that --help shows)
COMMANDS = {
    "train": ("train_job.cli.train", "Train on labelled photos, prove the result, publish and promote it."),
    "check": ("train_job.cli.check", "Say what is wrong with labelled photos, before training on them."),
    "plan": ("train_job.cli.plan", "Say what a training would find new, without fetching a photo."),
    "predict": ("transferlite.cli.predict", "Label photos with a published model (no TensorFlow needed)."),
    "explain": ("transferlite.cli.explain", "Show where in a photo a model sees its label (no TensorFlow needed)."),
    "models": ("transferlite.cli.models", "List, show, sign, promote, roll back, pull and share published models."),
    "edge": ("transferlite.cli.edge", "Keep a device's model up to date, and measure it (no TensorFlow needed)."),
    "keys": ("transferlite.cli.keys", "Create and show the keys that sign models."),
    "serve": ("inference_lambda.serve", "Answer HTTP on this machine as the Lambda function does, page included."),
    "report": ("transferlite.cli.report", "Fetch a version's report, and open it."),
    "features": ("train_job.cli.features", "Show, compact and prune the rows that the frozen base made of photos."),
    "drift": ("transferlite.cli.drift", "Compare what models answered lately with their validation photos."),
    "export": ("export.cli", "Check what runs a .tflite file; make a web page of a model."),
    "inspect": ("train_job.cli.train", "Show the layers of a backbone."),
    "cloud": ("transferlite.cli.cloud", "Deploy the loop to AWS; run, watch and schedule it there."),
    "package": ("transferlite.cli.package", "Build a folder for a device, or the Lambda function as a zip."),
    "demo": ("transferlite.cli.demo", "Run the whole loop on a local S3 with real pictures."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself; its module is imported here."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in ``--help``, without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="transferlite")
def transferlite() -> None:
    """From labelled photos in S3 or a folder to a proven TFLite model that answers.

    Every LOCATION is an s3:// URI or a local path; the S3 endpoint, region and credentials come from the standard
    AWS_* environment and configuration. Any command takes --debug: full tracebacks.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit status: 0, 1 for failures, 2 for what the user can mend."""
    debug = "--debug" in arguments or bool(os.environ.get(environment.DEBUG))
    words = [word for word in arguments if word != "--debug"]
    try:
        status = transferlite.main(words, prog_name="transferlite", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _failed("interrupted", 130, debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's last flush
        return 1
    except TransferLiteError as error:
        return _failed(str(error), error.exit_code, debug)
    except ModuleNotFoundError as error:
        return _failed(str(MissingExtraError(str(error.name), "train")), 2, debug)
    except OSError as error:
        mendable = error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
        return _failed(f"{error.filename}: {error.strerror}", 2 if mendable else 1, debug)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        return _failed(f"{type(error).__name__}: {text} (--debug shows where; please report it)", 1, debug)
    return status if isinstance(status, int) else 0


def _failed(message: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    click.echo(f"error: {message}", err=True)
    return status


def _in_sagemaker() -> int:
    """``train`` alone is what SageMaker runs its image with; anywhere else it is a command without its options."""
    sagemaker = importlib.import_module("train_job.pipeline.sagemaker")
    return sagemaker.run_job(run) if sagemaker.is_here() else run(["train"])


def main() -> None:
    """Entry point of the console script."""
    sys.exit(_in_sagemaker() if sys.argv[1:] == ["train"] else run(sys.argv[1:]))
