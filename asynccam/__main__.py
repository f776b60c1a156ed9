"""``python -m asynccam`` is the ``asynccam`` command."""

from asynccam.cli.main import run

if __name__ == "__main__":
    run()
