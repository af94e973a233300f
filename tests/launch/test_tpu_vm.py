"""launch/tpu_vm.sh against a stand-in for gcloud, whose two hosts are directories here."""

import re
import time

import pytest

from tests.launch.scripts import run, write_program

# Its "slice" is a state file; a command for a host runs here, with a home directory of the host's
# own and a disk of its own at /disk.
GCLOUD = """#!/usr/bin/env bash
cd "$CLOUD"
echo "$*" >>calls
for word in "$@"; do
  case $word in
    --worker=all) hosts=(0 1) ;;
    --worker=0) hosts=(0) ;;
    --command=*) command=${word#--command=} ;;
  esac
done
case "$3 $4" in
  "queued-resources create") echo "${CREATED:-WAITING_FOR_RESOURCES}" >state ;;
  "queued-resources describe")
    cat state 2>/dev/null || exit 1
    echo ACTIVE >state
    ;;
  "queued-resources delete") rm state ;;
  "tpu-vm scp") for host in 0 1; do mkdir -p "$host" && cp "$5" "$host/${6#*:}"; done ;;
  "tpu-vm ssh")
    for host in "${hosts[@]}"; do
      (
        cd "$host"
        export HOME=$PWD PATH=$CLOUD/on_host:$PATH
        bash -c "${command//\\/disk/$PWD/disk}"
      ) || exit
    done
    ;;
esac
"""
# Trains until SIGTERM, then exits with 75; the second time it ends well.
TRAIN = """#!/usr/bin/env bash
echo "python $* $LIBTPU_INIT_ARGS"
if [[ -e ~/was_here && ! -e ~/long ]]; then exit 0; fi
touch ~/was_here
trap 'exit 75' TERM
[[ -e ~/long ]] || exit 75
while true; do sleep 0.1; done
"""


@pytest.fixture
def cloud(tmp_path):
    """`cloud(command, …)` runs launch/tpu_vm.sh."""
    write_program(tmp_path / "bin" / "gcloud", GCLOUD)
    # Installing takes minutes on a TPU VM; here only the calls are seen.
    for name in ("python3", "uv"):
        write_program(tmp_path / "on_host" / name, f'#!/bin/sh\necho "{name} $@" >>~/installed\n')
    write_program(tmp_path / "on_host" / "sleep", "#!/bin/sh\nexec /bin/sleep 0.05\n")

    def call(*command, **variables):
        variables = {
            "NAME": "bert",
            "ZONE": "z",
            "TYPE": "v5litepod-8",
            "RUNTIME": "r",
            "POLL_SECONDS": "0",
            "CLOUD": str(tmp_path),
            "TMPDIR": str(tmp_path),
        } | variables
        return run("launch/tpu_vm.sh", *command, path=tmp_path / "bin", **variables)

    call.directory = tmp_path
    return call


@pytest.fixture
def slice_of_two(cloud):
    cloud("up")
    for host in "01":
        write_program(cloud.directory / host / "venv" / "bin" / "python", TRAIN)
    return cloud


def wait_for(cloud, text):
    deadline = time.monotonic() + 20
    while cloud("status").count(text) < 2:
        assert time.monotonic() < deadline, cloud("status")
        time.sleep(0.05)


def test_a_slice_is_made_once_and_installed_on_every_host(cloud):
    assert "Waiting for the slice: bert is WAITING_FOR_RESOURCES" in cloud("up", SPOT="1")
    assert "bert is there already (ACTIVE)" in cloud("up")
    calls = (cloud.directory / "calls").read_text()
    [create] = re.findall(r".*queued-resources create.*", calls)
    assert create.endswith("--accelerator-type=v5litepod-8 --runtime-version=r --spot")
    for host in "01":
        assert (cloud.directory / host / "bert_jax" / "bert_jax" / "train.py").exists()
        assert "[tpu,gcs]" in (cloud.directory / host / "installed").read_text()
    cloud("delete")
    assert not (cloud.directory / "state").exists()


def test_a_slice_that_was_taken_away_is_refused(cloud):
    said = cloud("up", CREATED="SUSPENDED", expect=2)
    assert "bert is SUSPENDED: launch/tpu_vm.sh delete, then up again" in said


def test_every_host_trains_and_goes_on_after_75(slice_of_two):
    cloud = slice_of_two
    flags = ("--config=configs/bert.py:large", "--workdir=gs://bucket/a run's")
    cloud("start", *flags)
    wait_for(cloud, "ended with status 0")
    for host in "01":
        log = (cloud.directory / host / "run" / "log").read_text()
        started = f"python -m bert_jax.train --distributed {' '.join(flags)} --xla_tpu"
        assert log.count(started) == 2
        assert log.count("saved after a signal; it goes on") == 1


def test_stop_saves_and_does_not_start_again(slice_of_two):
    cloud = slice_of_two
    for host in "01":
        (cloud.directory / host / "long").touch()
    cloud("start", "--workdir=gs://bucket/run")
    wait_for(cloud, "trains: python -m bert_jax.train")
    assert "trains already" in cloud("start", "--workdir=gs://bucket/run", expect=1)
    cloud("stop")
    wait_for(cloud, "ended with status 75")


def test_hosts_that_do_not_share_the_workdir_are_refused(slice_of_two, tmp_path):
    cloud = slice_of_two
    assert "trains" in cloud("start", f"--workdir={tmp_path}/shared")
    wait_for(cloud, "ended with status 0")
    said = cloud("start", "--workdir=/disk/run", expect=2)
    assert "does not see what the first host wrote in" in said
    assert "not every host sees --workdir=/disk/run: use gs://" in said
    assert "shared directory from / on" in cloud("start", "--workdir=runs/mine", expect=2)
